//! What cudarc can ask for and the simulator does not model: refused by name, where a missing symbol would be a panic.

use cudarc::driver::sys::CUresult::{self, CUDA_SUCCESS};

use super::books::finding;
use super::call;
use crate::findings::Kind;

macro_rules! refused {
    ($($name:ident)*) => {$(
        /// Takes whatever it is passed: C's callers clean up after themselves.
        #[unsafe(no_mangle)]
        pub extern "C" fn $name() -> CUresult {
            let name = stringify!($name);
            call(name, |driver| Err(driver.books.found(finding(Kind::Unsupported, name, "it is not modelled".to_owned()))))
        }
    )*};
}

refused! {
    cuDestroyExternalMemory
    cuExternalMemoryGetMappedBuffer
    cuGraphExecUpdate_v2
    cuImportExternalMemory
    cuMemAdvise_v2
    cuMemAllocManaged
    cuMemHostGetDevicePointer_v2
    cuMemPoolCreate
    cuMemPoolDestroy
    cuMemPrefetchAsync_v2
    cuOccupancyMaxActiveClusters
    cuOccupancyMaxPotentialClusterSize
    cuStreamAttachMemAsync
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStart() -> CUresult {
    CUDA_SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStop() -> CUresult {
    CUDA_SUCCESS
}
