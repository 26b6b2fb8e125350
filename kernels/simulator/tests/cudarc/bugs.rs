//! Bugs of host code, each beside its mended twin, which is clean.

use std::ffi::{CString, c_char};
use std::sync::Arc;

use cudarc::driver::sys::{self, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaStream, DevicePtr, DevicePtrMut, DriverError, result};

use super::process::simulated;

/// Runs a bug and its twin, and checks that the first is found, with those words, and nothing in the second.
fn planted(test: &str, kind: &str, words: &[&str], body: fn(mended: bool)) {
    for mended in ["no", "yes"] {
        let run = || body(std::env::var("MENDED").unwrap() == "yes");
        let Some(report) = simulated(&format!("bugs::{test}"), &[("MENDED", mended)], run) else { return };
        match mended {
            "no" => report.assert_finds(kind, words),
            _ => report.assert_clean(),
        }
    }
}

/// Two streams that cudarc does not make wait for each other.
fn two_streams() -> (Arc<CudaStream>, Arc<CudaStream>) {
    let context = CudaContext::new(0).unwrap();
    unsafe { context.disable_event_tracking() };
    (context.new_stream().unwrap(), context.new_stream().unwrap())
}

fn answers<T: std::fmt::Debug>(answer: Result<T, DriverError>, bug: CUresult, mended: bool) {
    assert_eq!(answer.err(), (!mended).then_some(DriverError(bug)));
}

#[test]
fn an_allocation_is_not_waited_for() {
    let words = ["cuMemsetD8Async", "stream 2 that did not wait", "cuMemAllocAsync on stream 1, allocation 1"];
    planted("an_allocation_is_not_waited_for", "stream_order", &words, |mended| {
        let (a, b) = two_streams();
        let mut slice = unsafe { a.alloc::<f32>(100) }.unwrap();
        if mended {
            b.join(&a).unwrap();
        }
        answers(b.memset_zeros(&mut slice), CUresult::CUDA_ERROR_LAUNCH_FAILED, mended);
        a.join(&b).unwrap();
    });
}

#[test]
fn what_was_written_is_not_waited_for() {
    let words = ["cuMemcpyDtoHAsync", "read on stream 2 that did not wait for cuMemsetD8Async on stream 1"];
    planted("what_was_written_is_not_waited_for", "stream_order", &words, |mended| {
        let (a, b) = two_streams();
        let mut slice = unsafe { a.alloc::<f32>(100) }.unwrap();
        b.join(&a).unwrap();
        a.memset_zeros(&mut slice).unwrap();
        if mended {
            b.join(&a).unwrap();
        }
        answers(b.clone_dtoh(&slice), CUresult::CUDA_ERROR_LAUNCH_FAILED, mended);
        a.join(&b).unwrap();
    });
}

#[test]
fn memory_is_freed_while_another_stream_uses_it() {
    let words =
        ["cuMemFreeAsync", "allocation 1 is freed on stream 1", "did not wait for cuMemsetD8Async on stream 2"];
    planted("memory_is_freed_while_another_stream_uses_it", "stream_order", &words, |mended| {
        let (a, b) = two_streams();
        let mut slice = a.alloc_zeros::<f32>(100).unwrap();
        b.join(&a).unwrap();
        b.memset_zeros(&mut slice).unwrap();
        if mended {
            a.join(&b).unwrap();
        }
        drop(slice);
        answers(a.context().check_err(), CUresult::CUDA_ERROR_LAUNCH_FAILED, mended);
    });
}

#[test]
fn a_graph_uses_freed_memory() {
    let words = ["cuMemsetD8Async", "400 bytes at offset 0 of a freed allocation of 400"];
    planted("a_graph_uses_freed_memory", "use_after_free", &words, |mended| {
        let (a, _) = two_streams();
        let mut slice = a.alloc_zeros::<f32>(100).unwrap();
        a.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        a.memset_zeros(&mut slice).unwrap();
        let graph = a.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
        let keep = mended.then_some(slice);
        answers(graph.launch(), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, mended);
        drop(keep);
    });
}

#[test]
fn a_graph_is_launched_on_a_stream_that_did_not_wait() {
    let words = ["cuMemsetD8Async", "stream 3 that did not wait", "cuMemAllocAsync on stream 1"];
    planted("a_graph_is_launched_on_a_stream_that_did_not_wait", "stream_order", &words, |mended| {
        let (a, b) = two_streams();
        let mut slice = unsafe { a.alloc::<f32>(100) }.unwrap();
        b.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        b.memset_zeros(&mut slice).unwrap();
        let graph = b.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
        // Elsewhere than where it was captured.
        let c = b.context().new_stream().unwrap();
        if mended {
            c.join(&a).unwrap();
        }
        let mut executable = std::ptr::null_mut();
        let launch = unsafe {
            sys::cuGraphInstantiateWithFlags(&mut executable, graph.cu_graph(), 0).result().unwrap();
            result::graph::launch(executable, c.cu_stream())
        };
        answers(launch, CUresult::CUDA_ERROR_LAUNCH_FAILED, mended);
        unsafe { result::graph::exec_destroy(executable) }.unwrap();
        a.join(&c).unwrap();
    });
}

#[test]
fn branches_of_a_graph_write_the_same_memory() {
    let words =
        ["cuMemsetD8Async", "written on branch 1 of a graph that did not wait for cuMemsetD8Async on stream 1"];
    planted("branches_of_a_graph_write_the_same_memory", "stream_order", &words, |mended| {
        let (a, b) = two_streams();
        let mut slice = a.alloc_zeros::<f32>(100).unwrap();
        a.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        b.join(&a).unwrap();
        a.memset_zeros(&mut slice).unwrap();
        if mended {
            b.join(&a).unwrap();
        }
        b.memset_zeros(&mut slice).unwrap();
        a.join(&b).unwrap();
        let graph = a.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
        answers(graph.launch(), CUresult::CUDA_ERROR_LAUNCH_FAILED, mended);
    });
}

#[test]
fn memory_is_freed_twice() {
    planted("memory_is_freed_twice", "use_after_free", &["cuMemFreeAsync", "a freed allocation of 64"], |mended| {
        let (a, _) = two_streams();
        let memory = unsafe { result::malloc_async(a.cu_stream(), 64) }.unwrap();
        unsafe { result::free_async(memory, a.cu_stream()) }.unwrap();
        if !mended {
            let again = unsafe { result::free_async(memory, a.cu_stream()) };
            answers(again, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, mended);
        }
    });
}

#[test]
fn a_copy_goes_past_the_end() {
    let words = ["cuMemcpyHtoDAsync", "16 bytes at offset 90 of an allocation of 100"];
    planted("a_copy_goes_past_the_end", "out_of_bounds", &words, |mended| {
        let (a, _) = two_streams();
        let mut slice = a.alloc_zeros::<u8>(100).unwrap();
        let offset = if mended { 84 } else { 90 };
        let address = slice.device_ptr_mut(&a).0 + offset;
        let copied = unsafe { result::memcpy_htod_async(address, &[1u8; 16], a.cu_stream()) };
        answers(copied, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, mended);
    });
}

#[test]
fn memory_is_read_that_nothing_wrote() {
    let words = ["cuMemcpyDtoHAsync", "offset 60 of an allocation of 100 is read, but never written"];
    planted("memory_is_read_that_nothing_wrote", "uninitialized", &words, |mended| {
        let (a, _) = two_streams();
        let mut slice = unsafe { a.alloc::<u8>(100) }.unwrap();
        let written = if mended { 100 } else { 60 };
        a.memset_zeros(&mut slice.slice_mut(..written)).unwrap();
        // A copy inside of the device is not yet a use.
        let copy = a.clone_dtod(&slice).unwrap();
        answers(a.clone_dtoh(&copy), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, mended);
    });
}

#[test]
fn memory_is_never_freed() {
    planted("memory_is_never_freed", "leak", &["cuMemAllocAsync", "allocation 2", "20 bytes"], |mended| {
        let (a, _) = two_streams();
        let _freed = a.alloc_zeros::<u8>(10).unwrap();
        let slice = a.alloc_zeros::<u8>(20).unwrap();
        if !mended {
            std::mem::forget(slice);
        }
    });
}

#[test]
fn a_call_waits_where_that_is_forbidden() {
    let words = ["cuStreamSynchronize", "forbidden in a training step"];
    planted("a_call_waits_where_that_is_forbidden", "blocking_call", &words, |mended| {
        let (a, b) = two_streams();
        let region = CString::new("a training step").unwrap();
        let (forbid, allow) = unsafe {
            let forbid = sys::culib().get::<unsafe extern "C" fn(*const c_char)>(b"mdetr_sim_forbid_blocking");
            (forbid.unwrap(), sys::culib().get::<unsafe extern "C" fn()>(b"mdetr_sim_allow_blocking").unwrap())
        };
        unsafe { forbid(region.as_ptr()) };
        let slice = a.clone_htod(&[1.0f32; 3]).unwrap();
        match mended {
            true => b.join(&a).unwrap(),
            false => a.synchronize().unwrap(),
        }
        unsafe { allow() };
        assert_eq!(b.clone_dtoh(&slice).unwrap(), [1.0; 3]);
        b.synchronize().unwrap();
    });
}

#[test]
fn a_stream_is_waited_for_while_it_is_captured() {
    let words = ["cuStreamSynchronize", "not permitted while stream 1 is being captured"];
    planted("a_stream_is_waited_for_while_it_is_captured", "blocking_call", &words, |mended| {
        let (a, _) = two_streams();
        a.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        if !mended {
            answers(a.synchronize(), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, mended);
        }
        let graph = a.end_capture(CUgraphInstantiate_flags(0));
        answers(graph.map(drop), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, mended);
        a.synchronize().unwrap();
    });
}

#[test]
fn the_device_is_waited_for_while_a_stream_is_captured() {
    let words = ["cuMemAlloc\"", "not permitted while stream 1 is being captured"];
    planted("the_device_is_waited_for_while_a_stream_is_captured", "blocking_call", &words, |mended| {
        let (a, _) = two_streams();
        let mode = match mended {
            true => CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED,
            false => CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL,
        };
        a.begin_capture(mode).unwrap();
        let memory = unsafe { result::malloc_sync(8) };
        answers(memory, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, mended);
        let _ = a.end_capture(CUgraphInstantiate_flags(0));
        memory.into_iter().for_each(|memory| unsafe { result::free_sync(memory) }.unwrap());
    });
}

#[test]
fn memory_is_allocated_while_its_stream_is_captured() {
    let words = ["cuMemAllocAsync", "allocate before the capture"];
    planted("memory_is_allocated_while_its_stream_is_captured", "unsupported", &words, |mended| {
        let (a, _) = two_streams();
        if mended {
            drop(a.alloc_zeros::<u8>(1).unwrap());
        }
        a.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        if !mended {
            answers(a.alloc_zeros::<u8>(1).map(drop), CUresult::CUDA_ERROR_NOT_SUPPORTED, mended);
        }
        let graph = a.end_capture(CUgraphInstantiate_flags(0));
        answers(graph.map(drop), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, mended);
    });
}

#[test]
fn page_locked_memory_of_a_graph_is_freed() {
    let words = ["cuMemcpyHtoDAsync", "page-locked memory was freed since it was recorded"];
    planted("page_locked_memory_of_a_graph_is_freed", "use_after_free", &words, |mended| {
        let (a, _) = two_streams();
        let slice = a.alloc_zeros::<u32>(4).unwrap();
        let (to, _) = slice.device_ptr(&a);
        unsafe {
            let pinned = result::malloc_host(16, 0).unwrap();
            a.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
            sys::cuMemcpyHtoDAsync_v2(to, pinned, 16, a.cu_stream()).result().unwrap();
            let graph = a.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
            if !mended {
                result::free_host(pinned).unwrap();
            }
            answers(graph.launch(), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, mended);
            if mended {
                result::free_host(pinned).unwrap();
            }
        }
    });
}
