//! The driver: C entry points, and the books.
//!
//! **Calls run at once, in the order of the host, under one lock.** What a GPU would do later is done when the call
//! returns, so an error is answered by the very call that caused it, and later calls are not poisoned by it. That order is
//! one of many that the streams allow: the books know which others there are, and find what only this one makes right.
//!
//! Every entry point opens with `call` or `call_bound`, which lock, count, and keep panics from the caller.

mod books;
mod capture;
mod context;
mod copy;
mod device;
mod event;
mod function;
mod graph;
mod host;
mod launch;
pub mod library;
mod memory;
mod module;
mod order;
mod stream;
mod task;
mod unmodelled;

use std::cell::Cell;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUresult::{self, *};

pub use books::{Allocations, Books, Launches};

use crate::findings::Kind;
use crate::memory::Memory;
use crate::options::options;

/// What an entry point does: `Err` is the code it answers.
pub type Answer<T = ()> = Result<T, CUresult>;

/// Where a caller wants a result: C's `T *`, which may be null.
type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// Everything that the driver knows.
pub struct Driver {
    memory: Memory,
    /// The books.
    pub books: Books,
    contexts: context::Contexts,
    streams: stream::Streams,
    captures: Table<capture::Capture>,
    events: Table<event::Event>,
    modules: Table<module::Module>,
    functions: Table<function::Function>,
    graphs: Table<graph::Graph>,
    executables: Table<graph::Executable>,
    host: host::HostMemory,
}

static DRIVER: LazyLock<Mutex<Driver>> = LazyLock::new(|| {
    let mut books = Books::default();
    Mutex::new(Driver {
        memory: Memory::new(options().bounds),
        contexts: context::Contexts::default(),
        streams: stream::Streams::new(&mut books.timeline),
        books,
        captures: Table::new(0xca_0001),
        events: Table::new(0xe0_0001),
        modules: Table::new(0x30_0001),
        functions: Table::new(0xf0_0001),
        graphs: Table::new(0x60_0001),
        executables: Table::new(0x70_0001),
        host: host::HostMemory::default(),
    })
});

thread_local! {
    /// Whether this thread is inside of a call: host functions of streams may not call the driver.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The driver, for those that are not entry points of CUDA; `None` inside of a call.
pub fn lock() -> Option<MutexGuard<'static, Driver>> {
    (!INSIDE.get()).then(|| DRIVER.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs the body of an entry point.
fn run<T>(name: &'static str, body: impl FnOnce(&mut Driver) -> Answer<T>) -> Answer<T> {
    let mut driver = lock().ok_or(CUDA_ERROR_NOT_PERMITTED)?;
    *driver.books.calls.entry(name).or_default() += 1;
    INSIDE.set(true);
    let answer = catch_unwind(AssertUnwindSafe(|| body(&mut driver)));
    INSIDE.set(false);
    answer.unwrap_or_else(|_| {
        eprintln!("simulator: {name}: the simulator itself failed, see the message above");
        Err(CUDA_ERROR_UNKNOWN)
    })
}

/// An entry point that needs no context.
fn call(name: &'static str, body: impl FnOnce(&mut Driver) -> Answer) -> CUresult {
    run(name, body).err().unwrap_or(CUDA_SUCCESS)
}

/// An entry point that needs a context bound to the calling thread.
fn call_bound(name: &'static str, body: impl FnOnce(&mut Driver) -> Answer) -> CUresult {
    call(name, |driver| {
        driver.contexts.current()?;
        body(driver)
    })
}

/// Hands a result out.
fn put<T>(out: Out<'_, T>, value: T) -> Answer {
    out.ok_or(CUDA_ERROR_INVALID_VALUE)?.write(value);
    Ok(())
}

/// Refuses a call as a GPU does, and says why.
fn refuse<T>(code: CUresult, message: &str) -> Answer<T> {
    eprintln!("simulator: {message} ({code:?})");
    Err(code)
}

/// What a call that meets such a fault answers.
fn code_of(kind: Kind) -> CUresult {
    match kind {
        Kind::OutOfBounds | Kind::UseAfterFree | Kind::Uninitialized => CUDA_ERROR_ILLEGAL_ADDRESS,
        Kind::Misaligned => CUDA_ERROR_MISALIGNED_ADDRESS,
        Kind::EndlessLoop => CUDA_ERROR_LAUNCH_TIMEOUT,
        Kind::Assertion => CUDA_ERROR_ASSERT,
        Kind::Unsupported => CUDA_ERROR_NOT_SUPPORTED,
        Kind::Race
        | Kind::MissingAsyncWait
        | Kind::DivergentBarrier
        | Kind::DivergentWarp
        | Kind::StreamOrder
        | Kind::Leak
        | Kind::BlockingCall => CUDA_ERROR_LAUNCH_FAILED,
    }
}

/// Objects by handle. Handles are never used twice, nor are they pointers.
struct Table<T> {
    next: usize,
    entries: HashMap<usize, T>,
}

impl<T> Table<T> {
    fn new(first: usize) -> Self {
        Self { next: first << 16, entries: HashMap::new() }
    }

    fn insert(&mut self, entry: T) -> usize {
        self.next += 1;
        self.entries.insert(self.next, entry);
        self.next
    }

    fn get(&self, handle: usize) -> Answer<&T> {
        self.entries.get(&handle).ok_or(CUDA_ERROR_INVALID_HANDLE)
    }

    fn get_mut(&mut self, handle: usize) -> Answer<&mut T> {
        self.entries.get_mut(&handle).ok_or(CUDA_ERROR_INVALID_HANDLE)
    }

    fn remove(&mut self, handle: usize) -> Answer<T> {
        self.entries.remove(&handle).ok_or(CUDA_ERROR_INVALID_HANDLE)
    }
}
