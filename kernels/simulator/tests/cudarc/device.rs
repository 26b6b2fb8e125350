//! The device and its contexts.

use cudarc::driver::sys::{self, CUdevice_attribute::*, CUlimit, CUresult};
use cudarc::driver::{CudaContext, DriverError, result};

use super::process::simulated;

#[test]
fn it_is_what_the_options_say() {
    for (capability, opt_in) in [("80", 163), ("90", 227), ("100", 227)] {
        let environment = [("MDETR_SIM_CC", capability), ("OPT_IN", &opt_in.to_string())];
        let Some(report) = simulated("device::it_is_what_the_options_say", &environment, || {
            let (capability, opt_in) = (std::env::var("MDETR_SIM_CC").unwrap(), std::env::var("OPT_IN").unwrap());
            let context = CudaContext::new(0).unwrap();
            assert_eq!(CudaContext::device_count(), Ok(1));
            assert_eq!(context.name().unwrap(), format!("mdetr simulator (sm_{capability})"));
            let (major, minor) = context.compute_capability().unwrap();
            assert_eq!(format!("{major}{minor}"), capability);
            let opt_in = 1024 * opt_in.parse::<i32>().unwrap();
            assert_eq!(context.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), Ok(opt_in));
            assert_eq!(context.attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE), Ok(32));
            assert_eq!(context.attribute(CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY), Ok(0));
            assert_ne!(context.uuid().unwrap().bytes, [0; 16]);
            assert!(context.has_async_alloc() && context.total_mem().unwrap() > 1 << 30);
            assert_eq!(CudaContext::new(1).unwrap_err(), DriverError(CUresult::CUDA_ERROR_INVALID_DEVICE));
            let mut version = 0;
            assert_eq!(unsafe { sys::cuDriverGetVersion(&mut version) }, CUresult::CUDA_SUCCESS);
            assert_eq!(version, 13_000);
        }) else {
            return;
        };
        report.assert_clean();
    }
}

#[test]
fn contexts_are_bound_to_threads() {
    let Some(report) = simulated("device::contexts_are_bound_to_threads", &[], || {
        let unbound = Err(DriverError(CUresult::CUDA_ERROR_INVALID_CONTEXT));
        assert_eq!(result::mem_get_info(), unbound);
        let context = CudaContext::new(0).unwrap();
        std::thread::scope(|threads| {
            let other = threads.spawn(|| {
                assert_eq!(result::mem_get_info(), unbound);
                context.bind_to_thread().unwrap();
                result::mem_get_info().unwrap()
            });
            assert_eq!(other.join().unwrap(), context.mem_get_info().unwrap());
        });
        context.set_limit(CUlimit::CU_LIMIT_STACK_SIZE, 4096).unwrap();
        assert_eq!(context.get_limit(CUlimit::CU_LIMIT_STACK_SIZE), Ok(4096));
        context.set_blocking_synchronize().unwrap();
        context.synchronize().unwrap();

        let own = CudaContext::new_non_primary(0, 0).unwrap();
        assert_eq!(result::ctx::get_current().unwrap(), Some(own.cu_ctx()));
        drop(own);
        drop(context);
        assert_eq!(result::mem_get_info(), unbound);
    }) else {
        return;
    };
    report.assert_clean();
}

#[test]
fn errors_have_names() {
    let Some(report) = simulated("device::errors_have_names", &[], || {
        let error = DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        assert_eq!(error.error_name().unwrap().to_str(), Ok("CUDA_ERROR_ILLEGAL_ADDRESS"));
        assert_eq!(error.error_string().unwrap().to_str(), Ok("illegal address"));
    }) else {
        return;
    };
    report.assert_clean();
}

#[test]
fn what_is_not_modelled_is_refused_by_name() {
    let Some(report) = simulated("device::what_is_not_modelled_is_refused_by_name", &[], || {
        let _context = CudaContext::new(0).unwrap();
        let answer = unsafe { result::malloc_managed(64, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL) };
        assert_eq!(answer, Err(DriverError(CUresult::CUDA_ERROR_NOT_SUPPORTED)));
    }) else {
        return;
    };
    report.assert_finds("unsupported", &["cuMemAllocManaged"]);
}
