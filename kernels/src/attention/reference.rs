//! The definition, a query at a time.

use super::{Forwarded, Problem};
use crate::op::GradSlot;
use crate::{Real, Segment};

/// Where the things of a query of a head begin.
struct Query {
    /// In q and y.
    at: usize,
    /// In logsumexp.
    row: usize,
    /// In k and v, for every key.
    keys: Vec<usize>,
    /// In the stream of the dropout mask.
    mask: u64,
}

impl<T: Real> Problem<'_, T> {
    /// All queries that have keys.
    fn queries(&self) -> impl Iterator<Item = Query> {
        let segments = self.segments.iter().enumerate().filter(|(_, s)| s.keys > 0);
        let heads = segments.flat_map(|(i, s)| (0..self.heads).map(move |head| (i, s, head)));
        heads.flat_map(move |(segment, s, head)| (0..s.queries).map(move |query| self.query(segment, s, head, query)))
    }

    fn query(&self, segment: usize, s: &Segment, head: usize, query: usize) -> Query {
        let channel = head * self.head_dim();
        Query {
            at: (s.query + query) * self.c + channel,
            row: (s.query + query) * self.heads + head,
            keys: (s.key..s.key + s.keys).map(|key| key * self.c + channel).collect(),
            mask: self.mask_index(segment, head, query),
        }
    }

    fn dot(&self, a: &[T], b: &[T]) -> T {
        (0..self.head_dim()).map(|i| a[i] * b[i]).sum()
    }

    fn score(&self, query: &Query, key: usize) -> T {
        self.dot(&self.q[query.at..], &self.k[key..]) * T::from_f64(self.scale())
    }

    fn keep(&self, query: &Query, j: usize) -> T {
        T::from_f64(self.dropout.map_or(1.0, |(philox, p)| philox.keep(query.mask + j as u64, p).into()))
    }
}

/// out += a x, a head wide.
fn add<T: Real>(out: &mut [T], a: T, x: &[T], d: usize) {
    out[..d].iter_mut().zip(x).for_each(|(o, &x)| *o += a * x);
}

/// y (Nq, C), logsumexp (Nq, heads).
pub fn forward<T: Real>(y: &mut [T], logsumexp: &mut [T], problem: &Problem<T>) {
    y.fill(T::zero());
    logsumexp.fill(T::zero());
    for query in problem.queries() {
        let scores: Vec<T> = query.keys.iter().map(|&key| problem.score(&query, key)).collect();
        let max = scores.iter().fold(T::neg_infinity(), |m, &s| m.max(s));
        let logsum = max + scores.iter().map(|&s| (s - max).exp()).sum::<T>().ln();
        logsumexp[query.row] = logsum;
        for (j, (&key, &score)) in query.keys.iter().zip(&scores).enumerate() {
            let weight = (score - logsum).exp() * problem.keep(&query, j);
            add(&mut y[query.at..], weight, &problem.v[key..], problem.head_dim());
        }
    }
}

/// With P the probabilities and dP = (dy v^T) m: dv = (P m)^T dy, dS = P (dP - dy . y), dq = scale dS k, dk = scale dS^T q.
pub fn backward<T: Real>(grads: &mut [GradSlot], forwarded: &Forwarded<T>, problem: &Problem<T>) {
    let [dq, dk, dv] = grads else { panic!("attention: three gradients") };
    let (mut dq, mut dk, mut dv) = (dq.accumulator::<T>(), dk.accumulator::<T>(), dv.accumulator::<T>());
    let (d, scale) = (problem.head_dim(), T::from_f64(problem.scale()));
    for query in problem.queries() {
        let dy = &forwarded.dy[query.at..];
        let delta = problem.dot(dy, &forwarded.y[query.at..]);
        for (j, &key) in query.keys.iter().enumerate() {
            let p = (problem.score(&query, key) - forwarded.logsumexp[query.row]).exp();
            let keep = problem.keep(&query, j);
            let ds = p * (problem.dot(dy, &problem.v[key..]) * keep - delta) * scale;
            if let Some(dq) = &mut dq {
                add(&mut dq[query.at..], ds, &problem.k[key..], d);
            }
            if let Some(dk) = &mut dk {
                add(&mut dk[key..], ds, &problem.q[query.at..], d);
            }
            if let Some(dv) = &mut dv {
                add(&mut dv[key..], p * keep, dy, d);
            }
        }
    }
}
