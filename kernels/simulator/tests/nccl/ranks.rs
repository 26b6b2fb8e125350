//! Processes that are the ranks of a communicator: this executable again, once a rank.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream};
use cudarc::nccl::{Comm, Id};

/// What a rank does.
pub type Body = fn(&Rank);

/// A rank's process.
pub struct Rank {
    pub rank: usize,
    pub ranks: usize,
    pub id: Id,
    pub stream: Arc<CudaStream>,
}

impl Rank {
    /// Meets the others.
    pub fn comm(&self) -> Comm {
        Comm::from_rank(self.stream.clone(), self.rank, self.ranks, self.id).expect("all ranks are there")
    }
}

const RANK: &str = "MDETR_TEST_RANK";

/// In a process that [`run`] started for `case`: does what its rank does.
pub fn enter(cases: &[(&str, usize, Body)]) {
    let Ok(text) = std::env::var(RANK) else { return };
    let [case, rank, ranks, id] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
    let byte = |at: usize| u8::from_str_radix(&id[2 * at..][..2], 16).unwrap() as _;
    let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
    let id = Id::uninit(std::array::from_fn(byte));
    let (.., body) = cases.iter().find(|(name, ..)| *name == case).unwrap();
    body(&Rank { rank: rank.parse().unwrap(), ranks: ranks.parse().unwrap(), id, stream });
}

/// Starts the ranks of `case`, and returns what each left: whether it went well, and what it said.
pub fn run(case: &str, ranks: usize) -> Vec<(bool, String)> {
    let bytes = Id::new().unwrap().internal().map(|byte| byte as u8);
    let id = bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    let start = |rank: usize| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "rank", "--nocapture"])
            .env(RANK, format!("{case} {rank} {ranks} {id}"))
            .env("MDETR_SIM_PATIENCE", if case.starts_with("late") { "1" } else { "60" })
            .env_remove("MDETR_SIM_REPORT")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..ranks).map(start).collect();
    let outputs = processes.into_iter().map(|process| process.wait_with_output().unwrap());
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let left = outputs.map(|out| (out.status.success(), said(&out.stdout) + &said(&out.stderr))).collect();
    let name = Path::new(std::str::from_utf8(&bytes).unwrap().trim_end_matches('\0'));
    for entry in std::fs::read_dir(name.parent().unwrap()).unwrap() {
        let file = entry.unwrap().path();
        assert!(!file.display().to_string().starts_with(name.to_str().unwrap()), "{case} leaves {file:?}");
    }
    left
}
