//! Minimum-cost assignment by warps.

use crate::common::Arg;
use crate::support::{Loaded, Random, for_each_device, schedules};

/// The columns of the rows in a cheapest assignment of `rows` <= `columns`, and its cost: the textbook's shortest
/// augmenting paths, with duals.
fn reference(cost: &[f64], rows: usize, columns: usize) -> (Vec<i32>, f64) {
    let (mut u, mut v) = (vec![0.0; rows], vec![0.0; columns]);
    let mut row_of = vec![None; columns];
    for first in 0..rows {
        let (mut length, mut previous) = (vec![f64::INFINITY; columns], vec![0; columns]);
        let mut done = vec![false; columns];
        let (mut shortest, mut row) = (0.0, first);
        let sink = loop {
            for j in (0..columns).filter(|&j| !done[j]) {
                let through_row = shortest + cost[row * columns + j] - u[row] - v[j];
                if through_row < length[j] {
                    (length[j], previous[j]) = (through_row, row);
                }
            }
            let near = (0..columns).filter(|&j| !done[j]).min_by(|&a, &b| length[a].total_cmp(&length[b])).unwrap();
            (shortest, done[near]) = (length[near], true);
            match row_of[near] {
                Some(next) => row = next,
                None => break near,
            }
        };
        u[first] += shortest;
        for j in (0..columns).filter(|&j| done[j]) {
            v[j] -= shortest - length[j];
            if let Some(row) = row_of[j] {
                u[row] += shortest - length[j];
            }
        }
        let mut column = sink;
        loop {
            let row: usize = previous[column];
            let before = row_of.iter().position(|&r| r == Some(row));
            row_of[column] = Some(row);
            let Some(next) = before else { break };
            column = next;
        }
    }
    let mut matches = vec![-1; rows];
    let mut total = 0.0;
    for (column, row) in row_of.iter().enumerate().filter_map(|(column, row)| Some((column, (*row)?))) {
        matches[row] = column as i32;
        total += cost[row * columns + column];
    }
    (matches, total)
}

fn check(loaded: &mut Loaded, problems: usize, rows: usize, columns: usize) {
    let mut random = Random((rows * columns) as u64);
    let cost: Vec<f32> = (0..problems * rows * columns).map(|_| random.uniform(-2.0, 5.0) as f32).collect();
    let matches = loaded.device.uninitialized::<i32>(problems * rows);
    let total = loaded.device.uninitialized::<f64>(problems);
    let mut args: Vec<Arg> = vec![(&matches).into(), (&total).into(), (&loaded.device.upload(&cost)).into()];
    args.extend([problems, rows, columns].map(|size| Arg::from(size as i32)));
    loaded.launch("assignment", [problems.div_ceil(2) as u32, 1, 1], [64, 1, 1], 0, &args);
    let cost: Vec<f64> = cost.iter().map(|&cost| cost.into()).collect();
    let want: Vec<_> = cost.chunks(rows * columns).map(|cost| reference(cost, rows, columns)).collect();
    // random costs have one cheapest assignment
    let columns_of_rows: Vec<i32> = want.iter().flat_map(|(matches, _)| matches.clone()).collect();
    loaded.assert_same("matches", &loaded.device.download(&matches), &columns_of_rows);
    let costs: Vec<f64> = want.iter().map(|(_, total)| *total).collect();
    let got: Vec<f64> = loaded.device.download(&total);
    loaded.assert_close("total", &got, &costs, |i| 1e-13 * (costs[i].abs() + rows as f64));
}

#[test]
fn a_warp_a_problem() {
    for_each_device("assignment", &schedules(), |loaded| {
        for (problems, rows, columns) in
            [(1, 1, 1), (3, 5, 7), (2, 20, 100), (1, 32, 32), (3, 61, 128), (1, 128, 128)]
        {
            check(loaded, problems, rows, columns);
        }
    });
}
