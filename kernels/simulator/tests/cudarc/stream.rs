//! Streams and events: what waits for what.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::result::{self, stream::StreamKind};
use cudarc::driver::sys::{self, CUevent_flags, CUresult};
use cudarc::driver::{CudaContext, CudaStream, DriverError};

use super::process::simulated;

#[test]
fn events_measure_time() {
    let Some(report) = simulated("stream::events_measure_time", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream_with_priority(-1).unwrap();
        let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let start = stream.record_event(timed).unwrap();
        let slice = stream.alloc_zeros::<u8>(100_000).unwrap();
        let end = stream.record_event(timed).unwrap();
        let milliseconds = start.elapsed_ms(&end).unwrap();
        assert!(milliseconds > 0.0 && end.elapsed_ms(&start).unwrap() == -milliseconds);
        assert!(end.is_complete());

        let untimed = stream.record_event(None).unwrap();
        let never = context.new_event(timed).unwrap();
        for event in [&untimed, &never] {
            assert_eq!(start.elapsed_ms(event), Err(DriverError(CUresult::CUDA_ERROR_INVALID_HANDLE)));
            assert_eq!(event.try_is_complete(), Ok(true));
        }
        drop(slice);
    }) else {
        return;
    };
    report.assert_clean();
}

type Wait = fn(&Arc<CudaStream>, &Arc<CudaStream>);

/// Every way in which one stream's work, or the host's wait for it, comes before another's.
#[test]
fn waits_that_order_work() {
    let ways: [(&str, Wait); 7] = [
        ("event", |a, b| b.wait(&a.record_event(None).unwrap()).unwrap()),
        ("join", |a, b| b.join(a).unwrap()),
        ("stream synchronize", |a, _| a.synchronize().unwrap()),
        ("context synchronize", |a, _| a.context().synchronize().unwrap()),
        ("event synchronize", |a, _| a.record_event(None).unwrap().synchronize().unwrap()),
        ("event query", |a, _| assert!(a.record_event(None).unwrap().is_complete())),
        ("through the host's memory", |a, _| {
            let slice = a.alloc_zeros::<u8>(1).unwrap();
            a.clone_dtoh(&slice).unwrap();
        }),
    ];
    for (name, _) in ways {
        let Some(report) = simulated("stream::waits_that_order_work", &[("WAY", name)], || {
            let context = CudaContext::new(0).unwrap();
            unsafe { context.disable_event_tracking() };
            let (a, b) = (context.new_stream().unwrap(), context.new_stream().unwrap());
            let (_, wait) = ways.into_iter().find(|(name, _)| *name == std::env::var("WAY").unwrap()).unwrap();
            let mut slice = a.alloc_zeros::<u8>(100).unwrap();
            wait(&a, &b);
            b.memset_zeros(&mut slice).unwrap();
            wait(&b, &a);
        }) else {
            return;
        };
        report.assert_clean();
    }
}

/// The default stream waits for blocking streams, and they for it; others do not.
#[test]
fn the_default_stream_waits_for_blocking_streams() {
    for kind in ["blocking", "other"] {
        let Some(report) =
            simulated("stream::the_default_stream_waits_for_blocking_streams", &[("KIND", kind)], || {
                let _context = CudaContext::new(0).unwrap();
                let blocking = std::env::var("KIND").unwrap() == "blocking";
                let kind = if blocking { StreamKind::Default } else { StreamKind::NonBlocking };
                let stream = result::stream::create(kind).unwrap();
                unsafe {
                    let memory = result::malloc_async(stream, 16).unwrap();
                    assert_eq!(result::memset_d8_sync(memory, 1, 16).is_ok(), blocking);
                    if blocking {
                        result::memset_d8_async(memory, 2, 16, stream).unwrap();
                    } else {
                        result::ctx::synchronize().unwrap();
                    }
                    result::free_async(memory, sys::CUstream::default()).unwrap();
                    result::stream::destroy(stream).unwrap();
                }
            })
        else {
            return;
        };
        match kind {
            "blocking" => report.assert_clean(),
            _ => report.assert_finds("stream_order", &["cuMemsetD8\"", "the default stream that did not wait"]),
        }
    }
}

#[test]
fn functions_of_the_host_run_and_may_not_call_the_driver() {
    let Some(report) = simulated("stream::functions_of_the_host_run_and_may_not_call_the_driver", &[], || {
        unsafe extern "C" fn count(data: *mut c_void) {
            let calls = unsafe { &*data.cast::<AtomicU32>() };
            calls.fetch_add(1, Ordering::Relaxed);
            assert_eq!(result::mem_get_info(), Err(DriverError(CUresult::CUDA_ERROR_NOT_PERMITTED)));
        }
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let calls = AtomicU32::new(0);
        for _ in 0..3 {
            let data = (&raw const calls).cast_mut().cast();
            unsafe { result::stream::launch_host_function(stream.cu_stream(), count, data) }.unwrap();
        }
        stream.synchronize().unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }) else {
        return;
    };
    report.assert_clean();
}

#[test]
fn handles_are_checked() {
    let Some(report) = simulated("stream::handles_are_checked", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let dangling = stream.cu_stream();
        drop(stream);
        let invalid = Err(DriverError(CUresult::CUDA_ERROR_INVALID_HANDLE));
        unsafe {
            assert_eq!(result::stream::synchronize(dangling), invalid);
            assert_eq!(result::stream::destroy(sys::CUstream::default()), invalid);
            assert_eq!(result::event::destroy(dangling.cast()), invalid);
            assert_eq!(result::malloc_async(dangling, 4), Err(DriverError(CUresult::CUDA_ERROR_INVALID_HANDLE)));
        }
    }) else {
        return;
    };
    report.assert_clean();
}
