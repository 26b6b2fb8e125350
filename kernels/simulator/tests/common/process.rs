//! Tests in processes of their own, on the simulator: where the loader looks for libraries is settled when a process
//! starts.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

/// Set in the process that runs a test's body.
const BODY: &str = "SIMULATED_TEST";

/// Picks NVRTC's version (`12.9`, `13`) in a test's environment; any that is there, if it is not set.
#[allow(dead_code, reason = "not every test target compiles kernels")]
pub const NVRTC: &str = "SIMULATED_NVRTC";

/// Leaves out the libraries with this in their names, in a test's environment.
#[allow(dead_code, reason = "not every test target can do without one")]
pub const WITHOUT: &str = "SIMULATED_WITHOUT";

/// Names under which programs load the driver and the libraries.
const LIBRARIES: [&str; 9] = [
    "libcuda.so",
    "libcuda.so.1",
    "libcublasLt.so",
    "libcublasLt.so.12",
    "libcublasLt.so.13",
    "libcudnn.so",
    "libcudnn.so.9",
    "libnccl.so",
    "libnccl.so.2",
];

/// What came of a test's body.
pub struct Report {
    /// Whether it ran to its end.
    pub success: bool,
    /// What it printed, and the test harness.
    pub stdout: String,
    /// What it and the simulator complained of.
    pub stderr: String,
    /// The simulator's report.
    pub json: Value,
}

impl Report {
    /// The findings.
    pub fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Checks that the body ran to its end and nothing was found.
    pub fn assert_clean(&self) {
        assert!(self.success, "{}{}", self.stdout, self.stderr);
        assert!(self.findings().is_empty(), "{}", self.stderr);
    }

    /// Checks that the body ran to its end, and that one thing was found: of that kind, with those words.
    pub fn assert_finds(&self, kind: &str, words: &[&str]) {
        assert!(self.success, "{}{}", self.stdout, self.stderr);
        let [finding] = self.findings() else { panic!("one finding of {kind} expected:\n{}", self.stderr) };
        assert_eq!(finding["kind"], kind, "{finding}");
        words.iter().for_each(|word| assert!(finding.to_string().contains(word), "{word}: {finding}"));
    }
}

/// Runs `body` on the simulator, in a process that runs only the test `name` (as the harness calls it) with these
/// variables. There it returns `None`, and the test has to end.
pub fn simulated(name: &str, environment: &[(&str, &str)], body: impl FnOnce()) -> Option<Report> {
    if std::env::var_os(BODY).is_some() {
        body();
        return None;
    }
    let report = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.json", name.replace("::", "-")));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MDETR_SIM_")) {
        command.env_remove(variable);
    }
    let setting = |variable| environment.iter().find(|(name, _)| *name == variable).map(|(_, value)| *value);
    command.env("LD_LIBRARY_PATH", library_path(setting(WITHOUT), setting(NVRTC)));
    command.env(BODY, name).env("MDETR_SIM_REPORT", &report).envs(environment.iter().copied());
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(stdout.contains("running 1 test"), "there is no test {name}");
    let json = fs::read(&report).map_or(Value::Null, |json| serde_json::from_slice(&json).unwrap());
    let _ = fs::remove_file(report);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(Report { success: output.status.success(), stdout, stderr, json })
}

/// What the loader needs: the simulator under the names of all libraries but those with `without` in their names, and
/// NVRTC of that version, or of any, if it is there.
pub fn library_path(without: Option<&str>, version: Option<&str>) -> OsString {
    let nvrtc = version.map_or_else(any_nvrtc, nvrtc);
    std::env::join_paths([Some(libraries(without)), nvrtc].into_iter().flatten()).unwrap()
}

/// The folder of NVRTC's library, whatever version is in `target/nvrtc`.
pub fn any_nvrtc() -> Option<PathBuf> {
    nvrtc("12.9").or_else(|| nvrtc("13"))
}

/// The folder of NVRTC's library, if `target/nvrtc` has that version.
pub fn nvrtc(version: &str) -> Option<PathBuf> {
    let wheels = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("nvrtc").join(version).join("nvidia");
    let holds = |folder: &PathBuf| {
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("libnvrtc.so"))
    };
    fs::read_dir(wheels).ok()?.flatten().map(|package| package.path().join("lib")).find(holds)
}

/// A folder where all libraries, but those with `without` in their names, are the simulator.
fn libraries(without: Option<&str>) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let executable = std::env::current_exe().unwrap();
    let beside = executable.ancestors().skip(1).take(2).map(|folder| folder.join("libmdetr_simulator.so"));
    let simulator = beside.into_iter().find(|path| path.exists()).expect("the simulator, built by cargo");
    let name = executable.file_name().unwrap().to_string_lossy();
    let suffix = without.map_or_else(String::new, |without| format!("-without-{without}"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}{suffix}"));
    fs::create_dir_all(&folder).unwrap();
    for name in LIBRARIES.iter().filter(|name| without.is_none_or(|without| !name.contains(without))) {
        let link = folder.join(name);
        // A test that runs already may be loading it.
        if fs::read_link(&link).ok().as_ref() != Some(&simulator) {
            let _ = fs::remove_file(&link);
            symlink(&simulator, link).unwrap();
        }
    }
    folder
}
