//! The rectangular linear sum assignment problem by shortest augmenting paths (Crouse, 2016, "On implementing 2D
//! rectangular assignment algorithms", IEEE Transactions on Aerospace and Electronic Systems 52(4)), with the scan order
//! and the tie rule of SciPy's `linear_sum_assignment`, so that equal costs give its very indices.

const FREE: usize = usize::MAX;

/// Rows and columns of a minimum-cost assignment, sorted by row: min(rows, columns) pairs. `cost` is (rows, columns),
/// row-major and finite.
#[track_caller]
pub fn linear_sum_assignment(cost: &[f64], rows: usize, columns: usize) -> Vec<(usize, usize)> {
    assert_eq!(cost.len(), rows * columns, "linear_sum_assignment: {} costs for {rows} x {columns}", cost.len());
    assert!(cost.iter().all(|c| c.is_finite()), "linear_sum_assignment: a cost is not finite");
    if rows <= columns {
        return Search::new(cost, rows, columns).solve().into_iter().enumerate().collect();
    }
    let transposed: Vec<f64> = (0..columns).flat_map(|j| (0..rows).map(move |i| cost[i * columns + j])).collect();
    let mut pairs: Vec<(usize, usize)> =
        Search::new(&transposed, columns, rows).solve().into_iter().enumerate().map(|(j, i)| (i, j)).collect();
    pairs.sort_unstable();
    pairs
}

/// A partial assignment with its dual variables, at most as many rows as columns.
struct Search<'a> {
    cost: &'a [f64],
    columns: usize,
    row_dual: Vec<f64>,
    column_dual: Vec<f64>,
    column_of_row: Vec<usize>,
    row_of_column: Vec<usize>,
    /// Of the current path search: the length of the shortest path to each column, and the row it comes from.
    distance: Vec<f64>,
    predecessor: Vec<usize>,
    /// Columns whose distance is final, in order; the last one is free.
    scanned: Vec<usize>,
    remaining: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(cost: &'a [f64], rows: usize, columns: usize) -> Self {
        Search {
            cost,
            columns,
            row_dual: vec![0.0; rows],
            column_dual: vec![0.0; columns],
            column_of_row: vec![FREE; rows],
            row_of_column: vec![FREE; columns],
            distance: vec![0.0; columns],
            predecessor: vec![FREE; columns],
            scanned: Vec::with_capacity(columns),
            remaining: Vec::with_capacity(columns),
        }
    }

    /// The column of every row.
    fn solve(mut self) -> Vec<usize> {
        for row in 0..self.column_of_row.len() {
            let length = self.shortest_path(row);
            self.update_duals(row, length);
            self.augment(row);
        }
        self.column_of_row
    }

    /// Dijkstra's algorithm over reduced costs from an unassigned row to the nearest free column; returns its length.
    fn shortest_path(&mut self, start: usize) -> f64 {
        self.distance.fill(f64::INFINITY);
        self.scanned.clear();
        self.remaining.clear();
        // Backwards, so that a constant cost gives the identity.
        self.remaining.extend((0..self.columns).rev());
        let (mut row, mut length) = (start, 0.0);
        loop {
            let cost = &self.cost[row * self.columns..(row + 1) * self.columns];
            let (mut nearest, mut lowest) = (0, f64::INFINITY);
            for (at, &column) in self.remaining.iter().enumerate() {
                let through_row = length + cost[column] - self.row_dual[row] - self.column_dual[column];
                if through_row < self.distance[column] {
                    self.distance[column] = through_row;
                    self.predecessor[column] = row;
                }
                let distance = self.distance[column];
                // Of equally near columns a free one ends the search.
                if distance < lowest || (distance == lowest && self.row_of_column[column] == FREE) {
                    (nearest, lowest) = (at, distance);
                }
            }
            length = lowest;
            let column = self.remaining.swap_remove(nearest);
            self.scanned.push(column);
            row = self.row_of_column[column];
            if row == FREE {
                return length;
            }
        }
    }

    fn update_duals(&mut self, start: usize, length: f64) {
        self.row_dual[start] += length;
        for &column in &self.scanned {
            let slack = length - self.distance[column];
            self.column_dual[column] -= slack;
            if self.row_of_column[column] != FREE {
                self.row_dual[self.row_of_column[column]] += slack;
            }
        }
    }

    /// Flips the path that the search found.
    fn augment(&mut self, start: usize) {
        let mut column = *self.scanned.last().expect("a row has a column to go to");
        loop {
            let row = self.predecessor[column];
            self.row_of_column[column] = row;
            std::mem::swap(&mut self.column_of_row[row], &mut column);
            if row == start {
                return;
            }
        }
    }
}
