//! The report, at exit and while the program runs.

use std::ffi::{CStr, c_char};

use cudarc::driver::{CudaContext, sys};
use serde_json::Value;

use super::process::simulated;

/// The report so far.
fn so_far() -> Value {
    unsafe {
        let report = sys::culib().get::<unsafe extern "C" fn() -> *mut c_char>(b"mdetr_sim_report").unwrap();
        let free = sys::culib().get::<unsafe extern "C" fn(*mut c_char)>(b"mdetr_sim_free_report").unwrap();
        let text = report();
        let json = serde_json::from_str(CStr::from_ptr(text).to_str().unwrap()).unwrap();
        free(text);
        json
    }
}

#[test]
fn it_counts() {
    let Some(report) = simulated("report::it_counts", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let a = stream.alloc_zeros::<u8>(100).unwrap();
        let b = stream.clone_htod(&[1u32; 5]).unwrap();
        drop(a);
        let c = stream.alloc_zeros::<u8>(30).unwrap();
        assert_eq!(so_far()["allocations"]["frees"], 1);
        stream.clone_dtoh(&b).unwrap();
        stream.synchronize().unwrap();
        std::mem::forget(c);
        assert!(so_far()["findings"].as_array().unwrap().is_empty());
    }) else {
        return;
    };
    report.assert_finds("leak", &["cuMemAllocAsync", "allocation 3", "30 bytes were never freed"]);
    assert!(
        report.stderr.contains("simulator: Leak in cuMemAllocAsync, allocation 3: 30 bytes"),
        "{}",
        report.stderr
    );
    let json = &report.json;
    let allocations = serde_json::json!({ "count": 3, "bytes": 150, "peak_bytes": 120, "frees": 2 });
    assert_eq!(json["allocations"], allocations);
    let calls = &json["driver_calls"];
    assert_eq!([&calls["cuMemAllocAsync"], &calls["cuMemFreeAsync"], &calls["cuMemcpyHtoDAsync"]], [3, 2, 1]);
    let blocking = serde_json::json!({ "cuMemcpyDtoHAsync": 1, "cuStreamSynchronize": 1 });
    assert_eq!(json["blocking_calls"], blocking);
    assert_eq!((&json["launches"], &json["thread_instructions"]), (&serde_json::json!({}), &0.into()));
}

#[test]
fn its_name_may_hold_the_process() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let path = format!("{folder}/report-%p.json");
    let Some(report) = simulated("report::its_name_may_hold_the_process", &[("MDETR_SIM_REPORT", &path)], || {
        drop(CudaContext::new(0).unwrap());
        println!("id {}.", std::process::id());
    }) else {
        return;
    };
    let (_, process) = report.stdout.split_once("id ").unwrap();
    let path = path.replace("%p", process.split_once('.').unwrap().0);
    let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(json["driver_calls"]["cuDevicePrimaryCtxRelease"], 1);
}
