//! A device in process, without a driver: memory, kernels that the real NVRTC compiled, launches.

// each test target uses its part
#![allow(dead_code)]

pub mod nvrtc;

use bytemuck::Pod;
use mdetr_simulator::findings::Finding;
use mdetr_simulator::memory::{Memory, Work};
use mdetr_simulator::options::Options;
use mdetr_simulator::vm::launch::{Launch, Outcome, run};
use mdetr_simulator::vm::program::Program;

/// Memory and launches, one after another.
pub struct Device {
    pub memory: Memory,
    pub options: Options,
    work: u32,
}

/// Memory of a device.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    pub address: u64,
    pub bytes: u64,
}

/// An argument of a kernel.
pub struct Arg(Vec<u8>);

macro_rules! arg {
    ($($ty:ty),*) => {$(
        impl From<$ty> for Arg {
            fn from(value: $ty) -> Self {
                Self(bytemuck::bytes_of(&value).to_vec())
            }
        }
    )*};
}

arg!(i8, u8, i16, u16, i32, u32, i64, u64, f32, f64, [f32; 4], half::f16, half::bf16);

impl Arg {
    /// A struct.
    pub fn of<T: Pod>(value: &T) -> Self {
        Self(bytemuck::bytes_of(value).to_vec())
    }
}

impl From<&Buffer> for Arg {
    fn from(buffer: &Buffer) -> Self {
        buffer.address.into()
    }
}

impl Buffer {
    /// A pointer `bytes` after its start, or before.
    pub fn offset(&self, bytes: i64) -> Arg {
        self.address.wrapping_add_signed(bytes).into()
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Device {
    pub fn new(options: Options) -> Self {
        Self { memory: Memory::new(options.bounds), options, work: 0 }
    }

    /// One that permutes its schedule.
    pub fn seeded(seed: u64) -> Self {
        Self::new(Options { seed, ..Options::default() })
    }

    pub fn upload<T: Pod>(&mut self, values: &[T]) -> Buffer {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let address = self.memory.allocate(bytes.len() as u64, "");
        self.memory.find(address, bytes.len() as u64).unwrap().0.write(0, bytes);
        Buffer { address, bytes: bytes.len() as u64 }
    }

    /// Memory that nothing wrote.
    pub fn uninitialized<T: Pod>(&mut self, count: usize) -> Buffer {
        let bytes = (count * size_of::<T>()) as u64;
        Buffer { address: self.memory.allocate(bytes, ""), bytes }
    }

    pub fn zeros<T: Pod>(&mut self, count: usize) -> Buffer {
        self.upload(&vec![T::zeroed(); count])
    }

    pub fn download<T: Pod>(&self, buffer: &Buffer) -> Vec<T> {
        let (allocation, offset) = self.memory.find(buffer.address, buffer.bytes).unwrap();
        assert_eq!(allocation.first_unwritten(offset, buffer.bytes), None, "not all of it was written");
        bytemuck::pod_collect_to_vec(&allocation.read(offset, buffer.bytes))
    }

    pub fn free(&mut self, buffer: &Buffer) {
        self.memory.free(buffer.address).unwrap();
    }

    /// Loads PTX; the test fails if it cannot run.
    pub fn load(&mut self, ptx: &str) -> Program {
        Program::load(ptx, &mut self.memory).unwrap_or_else(|e| {
            panic!("line {}: {}\n{}", e.line, e.message, ptx.lines().nth(e.line as usize - 1).unwrap_or_default())
        })
    }

    /// Launches, whatever comes of it.
    pub fn launch(
        &mut self,
        program: &Program,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_shared: u32,
        arguments: &[Arg],
    ) -> Outcome {
        let parameters = &program.kernel(kernel).unwrap_or_else(|| panic!("no kernel {kernel}")).parameters;
        assert_eq!(arguments.len(), parameters.len(), "{kernel} takes {}", parameters.len());
        let mut bytes = vec![0; parameters.last().map_or(0, |(offset, size)| offset + size) as usize];
        for (Arg(argument), (offset, size)) in arguments.iter().zip(parameters) {
            assert_eq!(argument.len() as u64, *size, "an argument of {kernel}");
            bytes[*offset as usize..][..argument.len()].copy_from_slice(argument);
        }
        self.work += 1;
        let launch = Launch { program, kernel, grid, block, dynamic_shared, arguments: &bytes };
        run(&launch, &self.memory, &Work::in_order(self.work), &self.options)
    }
}

/// Asserts that nothing was found.
#[track_caller]
pub fn assert_clean(outcome: &Outcome) {
    let findings: Vec<String> = outcome.findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
