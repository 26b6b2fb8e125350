//! What kernels print.

use crate::support::{for_each_device, schedules};

/// As the C library prints it.
const NUMBERS: &str = "\
-42|  -42|-42  |-0042|-42|-42|-42
4294967254|ffffffd6|FFFFFFD6|0xffffffd6|37777777726|0000ffffffd6
-1234567890123|18446742839141661493|fffffee08e04fb35|      -1234567890123|-1234567890123
1234.567800|1234.568|   1234.57|1234.57   |1.234568e+03|1234.57|1234.57|+1234.6|001234.568
1.234568E+03|1235
    -42|-42 |
";

const TEXT: &str = "\
plain
ab|literal|     right|left      |cu|%
given
-3 65535 0.500000
0x1234
";

#[test]
fn formats() {
    for_each_device("printf", &schedules(), |loaded| {
        let args = [(-42_i32).into(), (-42_i32 as u32).into(), (-1_234_567_890_123_i64).into(), 1234.5678_f64.into()];
        let outcome = loaded.launch("print_numbers", [1; 3], [1; 3], 0, &args);
        assert_eq!(outcome.printed, NUMBERS, "{}", loaded.name);

        let text = loaded.device.upload(b"given\0");
        let outcome = loaded.launch("print_text", [1; 3], [1; 3], 0, &[(&text).into()]);
        assert_eq!(outcome.printed, TEXT, "{}", loaded.name);

        let returned = loaded.device.uninitialized::<i32>(3 * 40);
        let outcome = loaded.launch("print_threads", [3, 1, 1], [40, 1, 1], 0, &[(&returned).into()]);
        let mut lines: Vec<&str> = outcome.printed.lines().collect();
        lines.sort_unstable();
        let line = |i: usize| format!("block {} thread {} is {}", i / 40, i % 40, ["even", "odd"][i % 2]);
        let mut want: Vec<String> = (0..120).map(line).collect();
        want.sort_unstable();
        assert_eq!(lines, want, "{}", loaded.name);
        loaded.assert_same("arguments", &loaded.device.download(&returned), &[3; 120]);
    });
}
