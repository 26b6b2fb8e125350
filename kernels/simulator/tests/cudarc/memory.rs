//! Allocations, copies and fills.

use cudarc::driver::sys::{self, CUmemPool_attribute, CUmemorytype, CUpointer_attribute, CUresult};
use cudarc::driver::{CudaContext, DriverError, result};

use super::process::simulated;

#[test]
fn copies_go_everywhere() {
    let Some(report) = simulated("memory::copies_go_everywhere", &[], || {
        let context = CudaContext::new(0).unwrap();
        for stream in [context.default_stream(), context.new_stream().unwrap(), context.per_thread_stream()] {
            let host: Vec<u32> = (0..1000).collect();
            let a = stream.clone_htod(&host).unwrap();
            let mut b = stream.alloc_zeros::<u32>(1000).unwrap();
            assert_eq!(stream.clone_dtoh(&b).unwrap(), vec![0; 1000]);
            stream.memcpy_dtod(&a, &mut b).unwrap();
            assert_eq!(stream.clone_dtoh(&b).unwrap(), host);

            // Parts, on odd bytes too.
            stream.memcpy_dtod(&a.slice(1..4), &mut b.slice_mut(500..503)).unwrap();
            stream.memcpy_htod(&[7; 3], &mut b.slice_mut(997..)).unwrap();
            stream.memset_zeros(&mut b.slice_mut(..2)).unwrap();
            let mut bytes = unsafe { b.transmute_mut::<u8>(4000) }.unwrap();
            stream.memcpy_htod(&[1u8, 1, 1], &mut bytes.slice_mut(9..12)).unwrap();
            let mut expected = host.clone();
            expected[500..503].copy_from_slice(&[1, 2, 3]);
            expected[997..].fill(7);
            expected[..2].fill(0);
            expected[2] = 0x0101_0102;
            assert_eq!(stream.clone_dtoh(&b).unwrap(), expected);
            assert_eq!(stream.clone_dtoh(&a.clone()).unwrap(), host);

            let empty = stream.clone_htod(&[] as &[u32]).unwrap();
            assert!(stream.clone_dtoh(&empty).unwrap().is_empty());
            drop(stream.null::<f32>().unwrap());
        }
    }) else {
        return;
    };
    report.assert_clean();
}

#[test]
fn page_locked_memory_is_copied_without_waiting() {
    let Some(report) = simulated("memory::page_locked_memory_is_copied_without_waiting", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let mut pinned = unsafe { context.alloc_pinned::<u16>(5) }.unwrap();
        pinned.as_mut_slice().unwrap().copy_from_slice(&[1, 2, 3, 4, 5]);
        let device = stream.clone_htod(&pinned).unwrap();
        pinned.as_mut_slice().unwrap().fill(0);
        stream.memcpy_dtoh(&device, &mut pinned).unwrap();
        assert_eq!(pinned.as_slice().unwrap(), [1, 2, 3, 4, 5]);

        let mut pageable = vec![0u16; 5];
        let address = pageable.as_mut_ptr().cast();
        assert_eq!(unsafe { sys::cuMemHostRegister_v2(address, 10, 0) }, CUresult::CUDA_SUCCESS);
        stream.memcpy_dtoh(&device, &mut pageable).unwrap();
        assert_eq!(unsafe { sys::cuMemHostUnregister(address) }, CUresult::CUDA_SUCCESS);
        assert_eq!(pageable, [1, 2, 3, 4, 5]);
    }) else {
        return;
    };
    report.assert_clean();
    assert_eq!(report.json["blocking_calls"]["cuMemcpyDtoHAsync"], serde_json::Value::Null);
    assert_eq!(report.json["driver_calls"]["cuMemcpyDtoHAsync"], 2);
}

#[test]
fn calls_without_a_stream() {
    let Some(report) = simulated("memory::calls_without_a_stream", &[], || unsafe {
        let _context = CudaContext::new(0).unwrap();
        let a = result::malloc_sync(12).unwrap();
        let b = result::malloc_sync(12).unwrap();
        result::memcpy_htod_sync(a, &[1u32, 2, 3]).unwrap();
        result::memcpy_dtod_sync(b, a, 12).unwrap();
        assert_eq!(sys::cuMemsetD32_v2(b, 0x0203_0405, 2), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemsetD16_v2(b + 2, 0x0607, 1), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemsetD16_v2(b + 1, 0, 1), CUresult::CUDA_ERROR_INVALID_VALUE);
        result::memset_d8_sync(b + 1, 9, 1).unwrap();
        let mut out = [0u32; 3];
        result::memcpy_dtoh_sync(&mut out, b).unwrap();
        assert_eq!(out, [0x0607_0905, 0x0203_0405, 3]);
        let mut back = [0u32; 3];
        assert_eq!(sys::cuMemcpy(back.as_mut_ptr().expose_provenance() as u64, a, 12), CUresult::CUDA_SUCCESS);
        assert_eq!(back, [1, 2, 3]);

        let mut kind = 0u32;
        let attribute = CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
        let answer = sys::cuPointerGetAttribute((&raw mut kind).cast(), attribute, a + 4);
        assert_eq!((answer, kind), (CUresult::CUDA_SUCCESS, CUmemorytype::CU_MEMORYTYPE_DEVICE as u32));
        let answer = sys::cuPointerGetAttribute((&raw mut kind).cast(), attribute, 64);
        assert_eq!(answer, CUresult::CUDA_ERROR_INVALID_VALUE);
        result::free_sync(a).unwrap();
        result::free_sync(b).unwrap();
        result::free_sync(0).unwrap();
        assert_eq!(result::malloc_sync(0), Err(DriverError(CUresult::CUDA_ERROR_INVALID_VALUE)));
        assert_eq!(result::malloc_sync(1 << 40), Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)));
    }) else {
        return;
    };
    report.assert_clean();
    let blocking = &report.json["blocking_calls"];
    assert_eq!((&blocking["cuMemAlloc"], &blocking["cuMemFree"]), (&3.into(), &2.into()), "{blocking}");
    assert_eq!(
        (&blocking["cuMemcpyDtoD"], &blocking["cuMemsetD8"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
}

#[test]
fn the_pool_knows_what_is_used() {
    let Some(report) = simulated("memory::the_pool_knows_what_is_used", &[], || unsafe {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let (free, total) = context.mem_get_info().unwrap();
        let mut pool = std::ptr::null_mut();
        assert_eq!(sys::cuDeviceGetDefaultMemPool(&mut pool, 0), CUresult::CUDA_SUCCESS);
        let used = |attribute| {
            let mut used = 0u64;
            assert_eq!(sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut used).cast()), CUresult::CUDA_SUCCESS);
            used
        };
        let slice = stream.alloc_zeros::<u8>(1000).unwrap();
        assert_eq!(context.mem_get_info(), Ok((free - 1000, total)));
        assert_eq!(used(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 1000);
        drop(slice);
        assert_eq!(context.mem_get_info(), Ok((free, total)));
        assert_eq!(used(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 0);
        assert_eq!(used(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH), 1000);
        assert_eq!(sys::cuMemPoolTrimTo(pool, 0), CUresult::CUDA_SUCCESS);
    }) else {
        return;
    };
    report.assert_clean();
}
