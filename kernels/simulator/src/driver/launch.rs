//! Launches of kernels.

use std::ffi::{c_uint, c_void};
use std::io::Write;
use std::sync::Arc;

use cudarc::driver::sys::{
    CUfunction,
    CUlaunchAttributeID::{self, *},
    CUlaunchConfig,
    CUresult::{self, *},
    CUstream,
};

use super::books::finding;
use super::device::MULTIPROCESSORS;
use super::task::Task;
use super::{Answer, Driver, call_bound, refuse};
use crate::findings::Kind;
use crate::memory::Work;
use crate::options::options;
use crate::vm::launch;

/// A launch, with its arguments by value.
#[derive(Clone)]
pub struct Launch {
    /// The kernel's name.
    pub kernel: Arc<str>,
    module: usize,
    shape: Shape,
    arguments: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Shape {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
}

impl Driver {
    /// A launch as a GPU takes it.
    ///
    /// # Safety
    /// `parameters` points to a pointer to each of the kernel's arguments.
    unsafe fn prepare(
        &self,
        function: CUfunction,
        shape: Shape,
        parameters: *const *const c_void,
        cooperative: bool,
    ) -> Answer<Launch> {
        let function = self.functions.get(function.addr())?;
        let Shape { grid, block, dynamic_shared } = shape;
        let name = &function.name;
        let threads = block.iter().map(|&n| u64::from(n)).product::<u64>();
        let within =
            |shape: [u32; 3], most: [u32; 3]| shape.iter().zip(most).all(|(&n, most)| (1..=most).contains(&n));
        if !within(grid, [i32::MAX as u32, 65535, 65535]) || !within(block, [1024, 1024, 64]) || threads > 1024 {
            return refuse(
                CUDA_ERROR_INVALID_VALUE,
                &format!("{name}: grid {grid:?} of blocks {block:?} is too large"),
            );
        }
        if threads > function.max_threads().into() {
            let message = format!("{name}: blocks of {threads} threads, its bound is {}", function.max_threads());
            return refuse(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, &message);
        }
        if dynamic_shared > function.dynamic_shared {
            let allowed = function.dynamic_shared;
            let message = format!("{name}: {dynamic_shared} bytes of dynamic shared memory, {allowed} are allowed");
            return refuse(CUDA_ERROR_INVALID_VALUE, &message);
        }
        let resident = function.blocks_per_multiprocessor(threads as u32, dynamic_shared.into()) * MULTIPROCESSORS;
        let blocks = grid.iter().map(|&n| u64::from(n)).product::<u64>();
        if cooperative && blocks > resident.into() {
            let message = format!("{name}: {blocks} blocks that wait for each other, {resident} run at once");
            return refuse(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, &message);
        }
        let layout = &function.kernel.parameters;
        if parameters.is_null() && !layout.is_empty() {
            return refuse(CUDA_ERROR_INVALID_VALUE, &format!("{name}: no arguments, it has {}", layout.len()));
        }
        let end = layout.iter().map(|(offset, bytes)| offset + bytes).max().unwrap_or(0);
        let mut arguments = vec![0; end as usize];
        for (index, &(offset, bytes)) in layout.iter().enumerate() {
            // SAFETY: there is a pointer to every argument.
            let argument = unsafe { std::slice::from_raw_parts(parameters.add(index).read().cast(), bytes as usize) };
            arguments[offset as usize..][..bytes as usize].copy_from_slice(argument);
        }
        Ok(Launch { kernel: name.clone(), module: function.module, shape, arguments })
    }

    /// Runs a launch.
    pub fn launch(&mut self, launch: &Launch, work: &Work) -> Answer {
        let Ok(module) = self.modules.get(launch.module) else {
            let message = "its module was unloaded since it was recorded".to_owned();
            return Err(self.books.found(finding(Kind::UseAfterFree, &launch.kernel, message)));
        };
        let Shape { grid, block, dynamic_shared } = launch.shape;
        let (kernel, arguments) = (&*launch.kernel, &*launch.arguments);
        let what = launch::Launch { program: &module.program, kernel, grid, block, dynamic_shared, arguments };
        let outcome = launch::run(&what, &self.memory, work, options());
        if !outcome.printed.is_empty() {
            let mut stdout = std::io::stdout().lock();
            // A program that closed its output does not want it.
            let _ = stdout.write_all(outcome.printed.as_bytes()).and_then(|()| stdout.flush());
        }
        self.books.launched(kernel, outcome.instructions);
        let codes: Vec<_> = outcome.findings.into_iter().map(|finding| self.books.found(finding)).collect();
        let mut answer = codes.first().map_or(Ok(()), |&code| Err(code));
        for &address in &outcome.touched {
            let unordered = self.books.used(address, work, kernel);
            // One finding is enough: where the allocation was not waited for, what was written there was not either.
            if let Some(finding) = unordered.filter(|_| answer.is_ok()) {
                answer = Err(self.books.found(finding));
            }
        }
        answer
    }

    /// # Safety
    /// `parameters` points to a pointer to each parameter of the kernel, as `cuLaunchKernel` asks for.
    unsafe fn submit_launch(
        &mut self,
        function: CUfunction,
        shape: Shape,
        stream: CUstream,
        parameters: *mut *mut c_void,
        cooperative: bool,
    ) -> Answer {
        // SAFETY: as the caller's.
        let launch = unsafe { self.prepare(function, shape, parameters.cast(), cooperative) }?;
        self.submit(stream, Task::Launch(launch))
    }

    fn unsupported(&mut self, call: &str, message: String) -> CUresult {
        self.books.found(finding(Kind::Unsupported, call, message))
    }
}

/// # Safety
/// `parameters` points to a pointer to each of the kernel's arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: CUfunction,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    dynamic_shared: c_uint,
    stream: CUstream,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    let shape = Shape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], dynamic_shared };
    call_bound("cuLaunchKernel", |driver| {
        if !extra.is_null() {
            return Err(driver.unsupported("cuLaunchKernel", "arguments in one buffer (`extra`)".to_owned()));
        }
        // SAFETY: as the caller's.
        unsafe { driver.submit_launch(function, shape, stream, parameters, false) }
    })
}

/// # Safety
/// `parameters` points to a pointer to each of the kernel's arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchCooperativeKernel(
    function: CUfunction,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    dynamic_shared: c_uint,
    stream: CUstream,
    parameters: *mut *mut c_void,
) -> CUresult {
    let shape = Shape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], dynamic_shared };
    call_bound("cuLaunchCooperativeKernel", |driver| {
        // SAFETY: as the caller's.
        unsafe { driver.submit_launch(function, shape, stream, parameters, true) }
    })
}

/// # Safety
/// `config` has as many attributes as it says; `parameters` points to a pointer to each of the kernel's arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernelEx(
    config: Option<&CUlaunchConfig>,
    function: CUfunction,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    call_bound("cuLaunchKernelEx", |driver| {
        let config = config.ok_or(CUDA_ERROR_INVALID_VALUE)?;
        if !extra.is_null() {
            return Err(driver.unsupported("cuLaunchKernelEx", "arguments in one buffer (`extra`)".to_owned()));
        }
        let mut cooperative = false;
        for index in 0..config.numAttrs as usize {
            // SAFETY: there are as many.
            let attribute = unsafe { &*config.attrs.add(index) };
            // SAFETY: the active fields are those of the attribute's name.
            let (flag, cluster) = unsafe { (attribute.value.cooperative, attribute.value.clusterDim) };
            match attribute.id {
                CU_LAUNCH_ATTRIBUTE_COOPERATIVE => cooperative = flag != 0,
                CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION if [cluster.x, cluster.y, cluster.z] == [1; 3] => {}
                id if without_effect(id) => {}
                id => return Err(driver.unsupported("cuLaunchKernelEx", format!("{id:?} is not modelled"))),
            }
        }
        let shape = Shape {
            grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
            block: [config.blockDimX, config.blockDimY, config.blockDimZ],
            dynamic_shared: config.sharedMemBytes,
        };
        // SAFETY: as the caller's.
        unsafe { driver.submit_launch(function, shape, config.hStream, parameters, cooperative) }
    })
}

/// Attributes that change when a kernel runs, or how fast, but not what it does.
fn without_effect(id: CUlaunchAttributeID) -> bool {
    matches!(
        id,
        CU_LAUNCH_ATTRIBUTE_IGNORE
            | CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW
            | CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY
            | CU_LAUNCH_ATTRIBUTE_PRIORITY
            | CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
    )
}
