//! Every op's gradients against central differences in f64, shapes and values drawn by proptest.

use mdetr_autograd::gradcheck;
use mdetr_kernels::case::Draw;
use mdetr_kernels::registry::OPS;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[test]
fn gradients_agree_with_central_differences() {
    let only = std::env::var("OP").ok();
    for op in OPS.iter().filter(|op| only.as_deref().is_none_or(|name| name == op.name)) {
        let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
        let choices = prop::collection::vec(any::<u32>(), 24);
        let result = runner.run(&choices, |choices| {
            gradcheck::check(&(op.draw)(&mut Draw::new(&choices))).map_err(TestCaseError::fail)
        });
        if let Err(error) = result {
            panic!("{}: {error}", op.name);
        }
    }
}
