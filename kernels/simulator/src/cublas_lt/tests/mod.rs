//! Products, and the memory that they work on.

mod loops;
mod refusals;

use std::mem::MaybeUninit;

use cudarc::cublaslt::sys::{
    cublasLtEpilogue_t as Code, cublasLtMatmulAlgo_t, cublasLtMatmulHeuristicResult_t, cublasStatus_t,
};

use super::HANDLES;
use super::descriptor::{DESCS, LAYOUTS, Layout, MatmulDesc, PREFERENCES, Preference};
use super::epilogue::{Aux, Bias, Epilogue};
use super::matmul::{Arguments, call, cublasLtMatmulAlgoGetHeuristic};
use super::support::TABLE;
use crate::driver::library::LibraryCall;
use crate::memory::Memory;
use crate::vendor::testing::{Random, random, values};
use crate::vendor::{Dtype, Refusal, store};

/// A product and the memory that it works on.
struct Product {
    memory: Memory,
    desc: MatmulDesc,
    /// A, B, C, D.
    layouts: [Layout; 4],
    addresses: [u64; 4],
    scalars: [f64; 2],
    workspace: [u64; 2],
}

#[derive(Clone, Copy)]
struct Case {
    /// In the support table.
    types: usize,
    sizes: [usize; 3],
    trans: [bool; 2],
    batch: usize,
    /// Elements between columns beyond a matrix's rows.
    gap: usize,
    epilogue: Code,
    scalars: [f64; 2],
    in_place: bool,
    device_scalars: bool,
}

const PLAIN: Case = Case {
    types: 4,
    sizes: [5, 7, 3],
    trans: [false; 2],
    batch: 1,
    gap: 0,
    epilogue: Code::CUBLASLT_EPILOGUE_DEFAULT,
    scalars: [1.0, 0.0],
    in_place: false,
    device_scalars: false,
};

/// The library's number of a type.
fn number(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F16 => 2,
        Dtype::Bf16 => 14,
        Dtype::F32 => 0,
        Dtype::F64 => 1,
    }
}

impl Product {
    fn new(case: Case) -> Self {
        let types = &TABLE[case.types];
        let [m, n, k] = case.sizes;
        let mut numbers = Random::new(m as u64 + 31 * n as u64 + 1009 * k as u64);
        let mut memory = Memory::new(true);
        let op = |rows: usize, cols: usize, trans: bool| if trans { [cols, rows] } else { [rows, cols] };
        let shapes = [op(m, k, case.trans[0]), op(k, n, case.trans[1]), [m, n], [m, n]];
        let mut layouts = shapes.map(|[rows, cols]| {
            let mut layout = Layout::new(0, rows as u64, cols as u64, (rows + case.gap) as i64);
            layout.batch = case.batch as i32;
            layout.batch_stride = ((rows + case.gap) * cols + 5 * case.gap) as i64;
            layout
        });
        let dtypes = [types.factors, types.factors, types.result, types.result];
        layouts.iter_mut().zip(dtypes).for_each(|(layout, dtype)| layout.dtype = number(dtype));
        let len = |index: usize| (case.batch as i64 * layouts[index].batch_stride) as usize;
        let mut fill = |memory: &mut Memory, index: usize, written: bool| match written {
            true => random(memory, dtypes[index], len(index), &mut numbers),
            false => memory.allocate(len(index) as u64 * dtypes[index].size(), "result"),
        };
        let reads_c = case.device_scalars || case.scalars[1] != 0.0;
        let [a, b, c] =
            [(0, true), (1, true), (2, reads_c)].map(|(index, written)| fill(&mut memory, index, written));
        let d = if case.in_place { c } else { fill(&mut memory, 3, false) };
        let mut desc = MatmulDesc::new(types.compute[0] as u32, number(types.scale));
        (desc.trans_a, desc.trans_b) = (case.trans[0].into(), case.trans[1].into());
        desc.epilogue = case.epilogue as u32;
        desc.pointer_mode = case.device_scalars.into();
        let epilogue = Epilogue::new(desc.epilogue).unwrap();
        desc.bias_stride = m.max(n) as i64;
        desc.bias = match epilogue.bias {
            Bias::None => 0,
            Bias::Add => random(&mut memory, types.result, case.batch * m.max(n), &mut numbers),
            _ => memory.allocate((case.batch * m.max(n)) as u64 * types.result.size(), "bias gradient"),
        };
        desc.aux_ld = m.next_multiple_of(128) as i64;
        desc.aux_stride = desc.aux_ld * n as i64;
        let aux_len = case.batch * desc.aux_stride as usize;
        desc.aux = match (epilogue.aux, epilogue.reads_aux()) {
            (Aux::None, _) => 0,
            (Aux::Mask, _) => {
                let address = memory.allocate(aux_len as u64 / 8, "mask");
                if epilogue.reads_aux() {
                    let bits: Vec<u8> = (0..aux_len / 8).map(|_| (numbers.draw() * 128.0) as i8 as u8).collect();
                    memory.find(address, 0).unwrap().0.write(0, &bits);
                }
                address
            }
            (Aux::Input, true) => random(&mut memory, types.result, aux_len, &mut numbers),
            (Aux::Input, false) => memory.allocate(aux_len as u64 * types.result.size(), "input of GELU"),
        };
        Self { memory, desc, layouts, addresses: [a, b, c, d], scalars: case.scalars, workspace: [0; 2] }
    }

    /// The call that `cublasLtMatmul` would submit, with `algo`.
    fn call(&mut self, algo: *const cublasLtMatmulAlgo_t) -> Result<LibraryCall, Refusal> {
        let scale = if self.desc.scale == number(Dtype::F64) { Dtype::F64 } else { Dtype::F32 };
        let (doubles, singles) = (self.scalars, self.scalars.map(|scalar| scalar as f32));
        let on_device = self.desc.pointer_mode == 1;
        let [alpha, beta] = [0, 1].map(|i| match (on_device, scale) {
            (true, _) => {
                let address = self.memory.allocate(8, "scalar");
                store(&self.memory, scale, address, &doubles[i..=i]);
                std::ptr::without_provenance(address as usize)
            }
            (false, Dtype::F64) => (&raw const doubles[i]).cast(),
            (false, _) => (&raw const singles[i]).cast(),
        });
        let arguments = Arguments {
            handle: HANDLES.create(()),
            desc: DESCS.create(self.desc.clone()),
            alpha,
            beta,
            addresses: self.addresses,
            layouts: self.layouts.each_ref().map(|layout| LAYOUTS.create(layout.clone())),
            algo,
            workspace: self.workspace[0],
            workspace_size: self.workspace[1],
        };
        // SAFETY: the scalars live, and `algo` is null or the caller's.
        unsafe { call(&arguments) }
    }

    /// What the heuristic answers to `preference`.
    fn algorithm(&self, preference: Preference) -> Result<cublasLtMatmulHeuristicResult_t, cublasStatus_t> {
        let [a, b, c, d] = self.layouts.each_ref().map(|layout| LAYOUTS.create(layout.clone()));
        let (desc, preference) = (DESCS.create(self.desc.clone()), PREFERENCES.create(preference));
        let mut results = MaybeUninit::uninit();
        let mut count = 7;
        let handle = HANDLES.create(());
        // SAFETY: room for the one result and the count.
        let status = unsafe {
            cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, c, d, preference, 1, results.as_mut_ptr(), &mut count)
        };
        assert_eq!(count, i32::from(status == cublasStatus_t::CUBLAS_STATUS_SUCCESS));
        // SAFETY: one result, as just checked.
        if count == 1 { Ok(unsafe { results.assume_init() }) } else { Err(status) }
    }

    /// All elements of A, B, C or D.
    fn values(&self, index: usize) -> Vec<f64> {
        let layout = &self.layouts[index];
        let dtype =
            [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64].into_iter().find(|&d| number(d) == layout.dtype);
        values(
            &self.memory,
            dtype.unwrap(),
            self.addresses[index],
            (layout.batch_stride * i64::from(layout.batch)) as usize,
        )
    }
}
