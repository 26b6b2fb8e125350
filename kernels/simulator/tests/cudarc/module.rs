//! Modules from PTX, launches of their kernels, and what a launch may not ask for.

use std::ffi::{CString, c_void};
use std::path::Path;

use std::io::{Write, stderr};

use cudarc::driver::sys::{
    self, CUfunction_attribute_enum::*, CUgraphInstantiate_flags, CUjit_option, CUlaunchAttributeID::*, CUresult,
    CUstreamCaptureMode,
};
use cudarc::driver::{CudaContext, DriverError, LaunchConfig, PushKernelArg, result};
use cudarc::nvrtc::Ptx;

use super::process::{NVRTC, nvrtc, simulated};

const KERNELS: &str = include_str!("kernels.ptx");

fn grid(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

#[test]
fn kernels_run() {
    let Some(report) = simulated("module::kernels_run", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kernels-{}.ptx", std::process::id()));
        std::fs::write(&path, KERNELS).unwrap();
        for ptx in [Ptx::from_src(KERNELS), Ptx::from_file(&path)] {
            let module = context.load_module(ptx).unwrap();
            let scale = module.load_function("scale").unwrap();
            let mut data = stream.clone_htod(&[1.0f32, 2.0, 3.0, 4.0, 5.0]).unwrap();
            let mut launch = stream.launch_builder(&scale);
            unsafe { launch.arg(&mut data).arg(&10.0f32).arg(&4u32).launch(grid(3, 2)) }.unwrap();
            assert_eq!(stream.clone_dtoh(&data).unwrap(), [10.5, 20.5, 30.5, 40.5, 5.0]);

            let mut offset = module.get_global("offset", &stream).unwrap();
            stream.memcpy_htod(&0.25f32.to_le_bytes(), &mut offset).unwrap();
            let mut part = data.slice_mut(4..);
            let mut launch = stream.launch_builder(&scale);
            unsafe { launch.arg(&mut part).arg(&2.0f32).arg(&1u32).launch(grid(1, 32)) }.unwrap();
            assert_eq!(stream.clone_dtoh(&data.slice(4..)).unwrap(), [10.25]);
        }
        std::fs::remove_file(path).unwrap();
    }) else {
        return;
    };
    report.assert_clean();
    assert_eq!(report.json["launches"]["scale"]["count"], 4);
    assert!(report.json["thread_instructions"].as_u64() > Some(100), "{}", report.json);
}

#[test]
fn kernels_that_nvrtc_compiles_run() {
    for version in ["12.9", "13"] {
        // In the body's own process it is on the loader's path.
        if nvrtc(version).is_none() {
            // not by eprintln, whose output the harness keeps for tests that fail
            let _ = writeln!(stderr(), "left out: a kernel by NVRTC {version}, which scripts/fetch-nvrtc brings");
            continue;
        }
        let Some(report) = simulated("module::kernels_that_nvrtc_compiles_run", &[(NVRTC, version)], || {
            let source = r#"extern "C" __global__ void twice(int *x) { x[threadIdx.x] *= 2; }"#;
            let context = CudaContext::new(0).unwrap();
            let stream = context.default_stream();
            let module = context.load_module(cudarc::nvrtc::compile_ptx(source).unwrap()).unwrap();
            let twice = module.load_function("twice").unwrap();
            let mut x = stream.clone_htod(&[1, 2, 3]).unwrap();
            unsafe { stream.launch_builder(&twice).arg(&mut x).launch(grid(1, 3)) }.unwrap();
            assert_eq!(stream.clone_dtoh(&x).unwrap(), [2, 4, 6]);
        }) else {
            return;
        };
        report.assert_clean();
    }
}

#[test]
fn kernels_print() {
    let Some(report) = simulated("module::kernels_print", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let speak = context.load_module(Ptx::from_src(KERNELS)).unwrap().load_function("speak").unwrap();
        unsafe { stream.launch_builder(&speak).launch(grid(3, 1)) }.unwrap();
    }) else {
        return;
    };
    report.assert_clean();
    (0..3).for_each(|block| assert!(report.stdout.contains(&format!("block {block}\n")), "{}", report.stdout));
}

#[test]
fn a_graph_keeps_arguments_by_value() {
    let Some(report) = simulated("module::a_graph_keeps_arguments_by_value", &[], || {
        let context = CudaContext::new(0).unwrap();
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().unwrap();
        let scale = context.load_module(Ptx::from_src(KERNELS)).unwrap().load_function("scale").unwrap();
        let mut data = stream.clone_htod(&[1.0f32, 2.0]).unwrap();
        let mut by = 2.0f32;
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        unsafe { stream.launch_builder(&scale).arg(&mut data).arg(&by).arg(&2u32).launch(grid(1, 2)) }.unwrap();
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
        by = f32::NAN;
        assert_eq!(stream.clone_dtoh(&data).unwrap(), [1.0, 2.0]);
        graph.launch().unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&data).unwrap(), [5.5, 9.5]);
        assert!(by.is_nan());
    }) else {
        return;
    };
    report.assert_clean();
    assert_eq!(report.json["launches"]["scale"]["count"], 2);
}

#[test]
fn launches_beyond_the_limits_are_refused() {
    let Some(report) = simulated("module::launches_beyond_the_limits_are_refused", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let module = context.load_module(Ptx::from_src(KERNELS)).unwrap();
        let (scale, bounded) = (module.load_function("scale").unwrap(), module.load_function("bounded").unwrap());
        assert_eq!(module.load_function("absent").map(drop), Err(DriverError(CUresult::CUDA_ERROR_NOT_FOUND)));
        assert_eq!(bounded.get_attribute(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), Ok(128));
        assert_eq!(bounded.get_attribute(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES), Ok(1024));

        let launch = |function, config| unsafe { stream.launch_builder(function).launch(config).map(drop) };
        let with_shared = |shared_mem_bytes| LaunchConfig { shared_mem_bytes, ..grid(1, 32) };
        let refused = |code| Err(DriverError(code));
        assert_eq!(launch(&bounded, grid(1, 129)), refused(CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES));
        assert_eq!(launch(&bounded, grid(0, 32)), refused(CUresult::CUDA_ERROR_INVALID_VALUE));
        let tall = LaunchConfig { grid_dim: (1, 65536, 1), ..grid(1, 32) };
        assert_eq!(launch(&bounded, tall), refused(CUresult::CUDA_ERROR_INVALID_VALUE));
        let large = LaunchConfig { block_dim: (1024, 2, 1), ..grid(1, 1) };
        assert_eq!(launch(&scale, large), refused(CUresult::CUDA_ERROR_INVALID_VALUE));

        assert_eq!(launch(&bounded, with_shared(47 << 10)), Ok(()));
        assert_eq!(launch(&bounded, with_shared((47 << 10) + 1)), refused(CUresult::CUDA_ERROR_INVALID_VALUE));
        let allow = |bytes| bounded.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes);
        assert_eq!(allow(227 << 10), refused(CUresult::CUDA_ERROR_INVALID_VALUE));
        assert_eq!(allow(226 << 10), Ok(()));
        assert_eq!(launch(&bounded, with_shared(226 << 10)), Ok(()));

        assert_eq!(bounded.occupancy_max_active_blocks_per_multiprocessor(128, 0, None), Ok(16));
        assert_eq!(bounded.occupancy_max_active_blocks_per_multiprocessor(128, 100 << 10, None), Ok(2));
        let together =
            |blocks| unsafe { stream.launch_builder(&bounded).launch_cooperative(grid(blocks, 128)).map(drop) };
        assert_eq!(together(32), Ok(()));
        assert_eq!(together(33), refused(CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE));
    }) else {
        return;
    };
    report.assert_clean();
}

#[test]
fn clusters_are_refused_by_name() {
    let Some(report) = simulated("module::clusters_are_refused_by_name", &[], || {
        let context = CudaContext::new(0).unwrap();
        let module = context.load_module(Ptx::from_src(KERNELS)).unwrap();
        let bounded = module.load_function("bounded").unwrap();
        let launch = |id, value| unsafe {
            let mut attribute = sys::CUlaunchAttribute { id, pad: [0; 4], value };
            let config = sys::CUlaunchConfig {
                gridDimX: 1,
                gridDimY: 1,
                gridDimZ: 1,
                blockDimX: 1,
                blockDimY: 1,
                blockDimZ: 1,
                sharedMemBytes: 0,
                hStream: std::ptr::null_mut(),
                attrs: &mut attribute,
                numAttrs: 1,
            };
            sys::cuLaunchKernelEx(&config, bounded.cu_function(), std::ptr::null_mut(), std::ptr::null_mut())
        };
        let cluster = |x| {
            let mut value = unsafe { std::mem::zeroed::<sys::CUlaunchAttributeValue>() };
            value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y: 1, z: 1 };
            launch(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value)
        };
        assert_eq!(cluster(1), CUresult::CUDA_SUCCESS);
        assert_eq!(cluster(2), CUresult::CUDA_ERROR_NOT_SUPPORTED);
        assert_eq!(
            launch(CU_LAUNCH_ATTRIBUTE_COOPERATIVE, sys::CUlaunchAttributeValue { cooperative: 1 }),
            CUresult::CUDA_SUCCESS
        );
    }) else {
        return;
    };
    report
        .assert_finds("unsupported", &["cuLaunchKernelEx", "CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION is not modelled"]);
}

#[test]
fn what_is_not_ptx_does_not_load() {
    let Some(report) = simulated("module::what_is_not_ptx_does_not_load", &[("MDETR_SIM_CC", "80")], || {
        let context = CudaContext::new(0).unwrap();
        let load = |text: &str| context.load_module(Ptx::from_src(text)).map(drop).map_err(|error| error.0);
        let newer = |target| load(&KERNELS.replace("sm_80", target));
        assert_eq!(newer("sm_75"), Ok(()));
        assert_eq!(newer("sm_90"), Err(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU));
        let absent = context.load_module(Ptx::from_file("absent.ptx")).map(drop);
        assert_eq!(absent, Err(DriverError(CUresult::CUDA_ERROR_FILE_NOT_FOUND)));

        // What is wrong is said in the caller's buffer.
        let broken = CString::new(KERNELS.replace("fma.rn.f32", "fma.of.f32")).unwrap();
        let mut log = [b'?'; 200];
        let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(log.len())];
        let mut module = std::ptr::null_mut();
        let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
        let answer = unsafe { sys::cuModuleLoadDataEx(&mut module, broken.as_ptr().cast(), 2, options, values) };
        assert_eq!(answer, CUresult::CUDA_ERROR_INVALID_PTX);
        let log = String::from_utf8_lossy(&log).into_owned();
        assert!(log.contains("line 3") && log.contains('\0'), "{log}");
    }) else {
        return;
    };
    report.assert_clean();
}

#[test]
fn machine_code_does_not_load() {
    let Some(report) = simulated("module::machine_code_does_not_load", &[], || {
        let _context = CudaContext::new(0).unwrap();
        let loaded = unsafe { result::module::load_data(c"\x7fELF\x02\x01".as_ptr().cast()) };
        assert_eq!(loaded, Err(DriverError(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU)));
    }) else {
        return;
    };
    report.assert_finds("unsupported", &["cuModuleLoad", "load PTX"]);
}

#[test]
fn a_launch_uses_freed_memory() {
    for mended in ["no", "yes"] {
        let Some(report) = simulated("module::a_launch_uses_freed_memory", &[("MENDED", mended)], || {
            let context = CudaContext::new(0).unwrap();
            let stream = context.default_stream();
            let scale = context.load_module(Ptx::from_src(KERNELS)).unwrap().load_function("scale").unwrap();
            let memory = unsafe { result::malloc_async(stream.cu_stream(), 8) }.unwrap();
            let launch = || unsafe {
                stream.launch_builder(&scale).arg(&memory).arg(&1.0f32).arg(&2u32).launch(grid(1, 2)).map(drop)
            };
            let free = || unsafe { result::free_async(memory, stream.cu_stream()) }.unwrap();
            unsafe { result::memset_d8_async(memory, 0, 8, stream.cu_stream()) }.unwrap();
            if std::env::var("MENDED").unwrap() == "yes" {
                launch().unwrap();
                free();
            } else {
                free();
                assert_eq!(launch(), Err(DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS)));
            }
        }) else {
            return;
        };
        match mended {
            "yes" => report.assert_clean(),
            _ => report.assert_finds("use_after_free", &["scale", "argument 0"]),
        }
    }
}
