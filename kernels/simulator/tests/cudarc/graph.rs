//! Stream capture, and graphs that replay it.

use cudarc::driver::sys::{
    self, CUgraphInstantiate_flags as Flags, CUresult, CUstreamCaptureMode::*, CUstreamCaptureStatus::*,
};
use cudarc::driver::{CudaContext, DriverError};

use super::process::simulated;

#[test]
fn captured_work_runs_at_every_launch() {
    let Some(report) = simulated("graph::captured_work_runs_at_every_launch", &[], || {
        let context = CudaContext::new(0).unwrap();
        unsafe { context.disable_event_tracking() };
        let (stream, other) = (context.new_stream().unwrap(), context.new_stream().unwrap());
        let mut input = unsafe { context.alloc_pinned::<u32>(4) }.unwrap();
        let (mut a, mut b) = (stream.alloc_zeros::<u32>(4).unwrap(), stream.alloc_zeros::<u32>(4).unwrap());
        stream.synchronize().unwrap();

        stream.begin_capture(CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        assert_eq!(stream.capture_status(), Ok(CU_STREAM_CAPTURE_STATUS_ACTIVE));
        // cudarc makes the stream wait for the event of page-locked memory, which was recorded outside.
        let copied = unsafe {
            let from = sys::CUdeviceptr::from(input.as_ptr().unwrap().expose_provenance() as u64);
            sys::cuMemcpyAsync(a_address(&a, &stream), from, 16, stream.cu_stream())
        };
        assert_eq!(copied, CUresult::CUDA_SUCCESS);
        // A branch: both streams read `a`, then one has waited for the other.
        other.join(&stream).unwrap();
        assert_eq!(other.capture_status(), Ok(CU_STREAM_CAPTURE_STATUS_ACTIVE));
        other.memcpy_dtod(&a.slice(..2), &mut b.slice_mut(2..)).unwrap();
        stream.memcpy_dtod(&a.slice(2..), &mut b.slice_mut(..2)).unwrap();
        stream.join(&other).unwrap();
        stream.memset_zeros(&mut a).unwrap();
        let graph = stream.end_capture(Flags(0)).unwrap().unwrap();
        assert_eq!(other.capture_status(), Ok(CU_STREAM_CAPTURE_STATUS_NONE));

        let mut nodes = 0;
        assert_eq!(
            unsafe { sys::cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &mut nodes) },
            CUresult::CUDA_SUCCESS
        );
        assert_eq!(nodes, 4);
        assert_eq!(stream.clone_dtoh(&b).unwrap(), [0; 4]);
        graph.upload().unwrap();
        for round in 0..3 {
            input.as_mut_slice().unwrap().copy_from_slice(&[round, 1, 2, 3]);
            graph.launch().unwrap();
            assert_eq!(stream.clone_dtoh(&b).unwrap(), [2, 3, round, 1]);
            assert_eq!(stream.clone_dtoh(&a).unwrap(), [0; 4]);
        }
    }) else {
        return;
    };
    report.assert_clean();
}

fn a_address(slice: &cudarc::driver::CudaSlice<u32>, stream: &cudarc::driver::CudaStream) -> sys::CUdeviceptr {
    use cudarc::driver::DevicePtr;
    slice.device_ptr(stream).0
}

/// Each breaks a rule of capture, and is answered with its code; the capture is spoiled.
#[test]
fn rules_of_capture() {
    let Some(report) = simulated("graph::rules_of_capture", &[], || {
        let context = CudaContext::new(0).unwrap();
        unsafe { context.disable_event_tracking() };
        let (a, b) = (context.new_stream().unwrap(), context.new_stream().unwrap());
        let code = |answer: Result<(), DriverError>| answer.unwrap_err().0;
        let end = |stream: &std::sync::Arc<cudarc::driver::CudaStream>| {
            stream.end_capture(Flags(0)).map(drop).unwrap_err().0
        };
        let outside = a.record_event(None).unwrap();

        a.begin_capture(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        assert_eq!(code(a.wait(&outside)), CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
        assert_eq!(a.capture_status(), Ok(CU_STREAM_CAPTURE_STATUS_INVALIDATED));
        assert_eq!(end(&a), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

        a.begin_capture(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        let inside = a.record_event(None).unwrap();
        assert_eq!(inside.try_is_complete(), Err(DriverError(CUresult::CUDA_ERROR_CAPTURED_EVENT)));
        assert_eq!(end(&a), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        assert_eq!(code(b.wait(&inside)), CUresult::CUDA_ERROR_CAPTURED_EVENT);

        let mut slice = a.alloc_zeros::<u8>(8).unwrap();
        b.join(&a).unwrap();
        a.begin_capture(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        b.join(&a).unwrap();
        assert_eq!(end(&b), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
        assert_eq!(end(&a), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

        a.begin_capture(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        b.join(&a).unwrap();
        b.memset_zeros(&mut slice).unwrap();
        assert_eq!(end(&a), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);

        a.begin_capture(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        b.begin_capture(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        assert_eq!(code(b.join(&a)), CUresult::CUDA_ERROR_STREAM_CAPTURE_MERGE);
        assert_eq!([end(&a), end(&b)], [CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED; 2]);

        a.begin_capture(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        assert_eq!(code(a.memcpy_htod(&[1u8; 8], &mut slice)), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        assert_eq!(end(&a), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

        assert_eq!(end(&a), CUresult::CUDA_ERROR_ILLEGAL_STATE);
        let default = context.default_stream().begin_capture(CU_STREAM_CAPTURE_MODE_RELAXED);
        assert_eq!(code(default), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);

        a.begin_capture(CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
        context.synchronize().unwrap();
        let refused = a.end_capture(Flags::CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH).map(drop);
        assert_eq!(code(refused), CUresult::CUDA_ERROR_INVALID_VALUE);
    }) else {
        return;
    };
    report.assert_clean();
}

#[test]
fn blocking_streams_keep_the_default_stream_from_being_used() {
    let Some(report) = simulated("graph::blocking_streams_keep_the_default_stream_from_being_used", &[], || {
        let context = CudaContext::new(0).unwrap();
        let (own, default) = (context.per_thread_stream(), context.default_stream());
        own.begin_capture(CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
        let implicit = DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
        assert_eq!(default.capture_status(), Err(implicit));
        assert_eq!(own.capture_status(), Ok(CU_STREAM_CAPTURE_STATUS_ACTIVE));
        assert_eq!(default.alloc_zeros::<u8>(1).map(drop), Err(implicit));
        assert_eq!(own.capture_status(), Ok(CU_STREAM_CAPTURE_STATUS_INVALIDATED));
        assert!(own.end_capture(Flags(0)).is_err());
    }) else {
        return;
    };
    report.assert_clean();
}
