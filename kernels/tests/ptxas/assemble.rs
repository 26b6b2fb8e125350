//! A `.cu` file to machine code: NVRTC, then ptxas, then the disassembler, with a cache of what they say.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mdetr_kernels::kernel_source::KernelSource;
use mdetr_kernels::nvrtc;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What the tools say of one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Its name in the `.cu`.
    pub name: String,
    /// Of a thread.
    pub registers: u64,
    /// Bytes of local memory of a thread, spilled registers among them.
    pub stack: u64,
    /// Bytes that a thread spills and loads back.
    pub spilled: u64,
    /// Instructions that read or write local memory.
    pub local: u64,
    /// Instructions of the tensor cores.
    pub tensor: u64,
}

/// Where results are kept, named by what they depend on.
pub fn cache_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("ptxas")
}

/// All kernels of a file, compiled with these options for that architecture.
pub fn assemble(source: &KernelSource, defines: &[String], capability: u32) -> Result<Vec<Kernel>> {
    let ptx = nvrtc::compile(source, defines, capability)?;
    let packages = std::fs::read_to_string(tools().join("packages"))
        .with_context(|| format!("{} is missing: run scripts/fetch-nvrtc", tools().display()))?;
    let mut hash = Sha256::new();
    for part in [ptx.to_bytes(), &capability.to_le_bytes(), packages.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let cached = cache_folder().join(&digest).with_extension("json");
    if let Some(said) = std::fs::read(&cached).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok()) {
        return kernels(&said);
    }
    let thread = rayon::current_thread_index().unwrap_or(0);
    let scratch = cache_folder().join(format!("{digest}-{}-{thread}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let said = translate(ptx.to_bytes(), capability, &scratch)?;
    let written = scratch.join("said.json");
    std::fs::write(&written, said.to_string())?;
    std::fs::rename(&written, &cached)?;
    std::fs::remove_dir_all(&scratch)?;
    kernels(&said)
}

/// What ptxas and the disassembler say: `{"ptxas": report, "code": {kernel: {HMMA: 8}}}`.
fn translate(ptx: &[u8], capability: u32, scratch: &Path) -> Result<Value> {
    let (input, output) = (scratch.join("kernels.ptx"), scratch.join("kernels.cubin"));
    std::fs::write(&input, ptx)?;
    let mut ptxas = Command::new(tools().join("nvidia/cuda_nvcc/bin/ptxas"));
    let (_, report) =
        run(ptxas.arg("-v").arg(format!("--gpu-name=sm_{capability}")).arg(&input).arg("-o").arg(&output))?;
    let mut nvdisasm = Command::new(tools().join("nvidia/cu13/bin/nvdisasm"));
    let (code, _) = run(nvdisasm.args(["-json", "-ndf"]).arg(&output))?;
    Ok(json!({ "ptxas": report, "code": opcodes(&code)? }))
}

/// Where `scripts/fetch-nvrtc` puts them.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder").join("nvrtc/12.9")
}

/// What a command writes on stdout and stderr.
fn run(command: &mut Command) -> Result<(String, String)> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "{command:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
    Ok((text(&output.stdout), text(&output.stderr)))
}

/// How often each instruction stands in each kernel, without its modifiers: `{kernel: {HMMA: 8}}`.
fn opcodes(disassembly: &str) -> Result<Value> {
    let disassembly: Value = serde_json::from_str(disassembly).context("the disassembler writes no JSON")?;
    let mut all = json!({});
    for function in disassembly[1].as_array().context("the disassembler lists no functions")? {
        let name = function["function-name"].as_str().context("a function without a name")?;
        for instruction in function["sass-instructions"].as_array().context("a function without instructions")? {
            let opcode = instruction["opcode"].as_str().context("an instruction without an opcode")?;
            let count = &mut all[name][opcode.split('.').next().unwrap_or(opcode)];
            *count = json!(count.as_u64().unwrap_or(0) + 1);
        }
    }
    Ok(all)
}

/// The kernels of which [`translate`]'s result tells.
fn kernels(said: &Value) -> Result<Vec<Kernel>> {
    let (report, code) = (said["ptxas"].as_str().context("no report of ptxas")?, &said["code"]);
    let mut kernels: Vec<Kernel> = Vec::new();
    for line in report.lines() {
        if let Some(name) =
            line.split_once("Compiling entry function '").and_then(|(_, rest)| rest.split('\'').next())
        {
            let opcodes = code[name].as_object().with_context(|| format!("no machine code of {name}"))?;
            let count = |is: fn(&str) -> bool| {
                opcodes.iter().filter(|(opcode, _)| is(opcode)).filter_map(|(_, n)| n.as_u64()).sum()
            };
            kernels.push(Kernel {
                name: name.into(),
                local: count(|opcode| matches!(opcode, "LDL" | "STL")),
                tensor: count(|opcode| opcode.ends_with("MMA")),
                ..Kernel::default()
            });
        }
        let Some(kernel) = kernels.last_mut() else { continue };
        let number = |words| number_before(line, words).unwrap_or(0);
        kernel.stack += number(" bytes stack frame");
        kernel.spilled += number(" bytes spill stores") + number(" bytes spill loads");
        kernel.registers += number(" registers");
    }
    Ok(kernels)
}

/// 40 in `Used 40 registers` before ` registers`.
fn number_before(line: &str, words: &str) -> Option<u64> {
    line.split_once(words)?.0.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[test]
fn reports_are_read() {
    let report = "ptxas info    : 8 bytes gmem\n\
        ptxas info    : Compiling entry function 'a' for 'sm_90'\n\
        ptxas info    : Function properties for a\n    \
            16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads\n\
        ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size\n";
    let disassembly = r#"[{}, [{"function-name": "a", "sass-instructions":
        [{"opcode": "HMMA.16816.F32"}, {"opcode": "HMMA.16816.F32"}, {"opcode": "STL"}, {"opcode": "LDG.E"}]}]]"#;
    let kernels = kernels(&json!({ "ptxas": report, "code": opcodes(disassembly).unwrap() })).unwrap();
    let expected = Kernel { name: "a".into(), registers: 40, stack: 16, spilled: 20, local: 1, tensor: 2 };
    assert_eq!(kernels, [expected]);
}
