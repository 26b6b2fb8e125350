//! Checkpoints as the published program writes them, through the program as its users run it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mdetr_model::{Mdetr, recipe};
use mdetr_train::dump::RecordedCase;
use serde_json::{Value, json};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

/// What `torch.save` writes: a pickle (protocol 2), and the storages.
#[derive(Default)]
struct TorchWriter {
    pickle: Vec<u8>,
    storages: Vec<Vec<u8>>,
}

impl TorchWriter {
    fn op(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.pickle.extend_from_slice(bytes.as_ref());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.op("X").op((text.len() as u32).to_le_bytes()).op(text)
    }

    fn int(&mut self, i: usize) -> &mut Self {
        self.op("J").op((i as i32).to_le_bytes())
    }

    fn ints(&mut self, ints: &[usize]) -> &mut Self {
        self.op("(");
        for &i in ints {
            self.int(i);
        }
        self.op("t")
    }

    fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.op("N"),
            Value::Bool(b) => self.op([if *b { 0x88 } else { 0x89 }]),
            Value::Number(n) if n.is_i64() => self.int(n.as_u64().unwrap() as usize),
            Value::Number(n) => self.op("G").op(n.as_f64().unwrap().to_be_bytes()),
            Value::String(text) => self.text(text),
            Value::Array(elements) => {
                self.op("](");
                elements.iter().for_each(|e| self.json(e));
                self.op("e")
            }
            Value::Object(items) => {
                self.op("}(");
                items.iter().for_each(|(key, value)| self.text(key).json(value));
                self.op("u")
            }
        };
    }

    fn tensor(&mut self, shape: &[usize], values: &[f64]) {
        let strides: Vec<usize> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
        self.op("ctorch._utils\n_rebuild_tensor_v2\n((").text("storage").op("ctorch\nFloatStorage\n");
        self.text(&self.storages.len().to_string()).text("cpu").int(values.len()).op("tQ");
        self.int(0).ints(shape).ints(&strides).op(b"\x89ccollections\nOrderedDict\n)RtR");
        self.storages.push(values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect());
    }

    fn save(mut self, path: &Path) {
        self.op(".");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
        let mut member = |name: String, bytes: &[u8]| {
            let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            zip.start_file(format!("archive/{name}"), options).unwrap();
            zip.write_all(bytes).unwrap();
        };
        member("data.pkl".into(), &self.pickle);
        for (i, storage) in self.storages.iter().enumerate() {
            member(format!("data/{i}"), storage);
        }
        zip.finish().unwrap();
    }
}

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny/base")
}

/// The recorded case's model with the recipe's weights, as a checkpoint of the published program, without an average.
fn write_checkpoint(path: &Path, prefix: &str) {
    let case = RecordedCase::read(&base()).unwrap();
    let mut model = Mdetr::new(&case.model, 0).unwrap();
    recipe::fill(&mut model.parameters);
    let mut args = case.json["config"].clone();
    args["text_config"] = case.json["text_config"].clone();
    args["output_dir"] = json!("");
    let mut torch = TorchWriter::default();
    torch.op(b"\x80\x02}(").text("model").op("ccollections\nOrderedDict\n)R(");
    for (_, p) in model.parameters.iter() {
        torch.text(&format!("{prefix}{}", p.name)).tensor(&p.published_shape(), &p.to_published(&p.value));
    }
    torch.text("transformer.text_encoder.embeddings.position_ids").tensor(&[1, 2], &[0.0, 1.0]);
    torch.op("u").text("model_ema").op("N").text("optimizer").json(&json!({"state": {}, "param_groups": []}));
    torch.text("epoch").int(3).text("args").op(b"cargparse\nNamespace\n)\x81");
    torch.json(&args);
    torch.op("bu");
    torch.save(path);
}

fn mdetr(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mdetr")).args(args).current_dir(dir).env("MDETR_CACHE", dir).output().unwrap()
}

/// Standard output and error of a command that succeeds.
#[track_caller]
fn success(args: &[&str], dir: &Path) -> [String; 2] {
    let out = mdetr(args, dir);
    let [stdout, stderr] = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(out.status.success(), "{args:?}: {stderr}");
    [stdout, stderr]
}

#[test]
fn published_checkpoints_give_the_recorded_outputs() {
    let dir = TempDir::new().unwrap();
    let case = base();
    let dump = |weights: &str, out: &str| {
        let [json, messages] = success(&["dump", weights, "--case", case.to_str().unwrap(), "-o", out], dir.path());
        (json, std::fs::read(dir.path().join(out)).unwrap(), messages)
    };
    let recipe = dump("recipe", "recipe.safetensors");
    for (file, prefix) in [("plain.pth", ""), ("masks.pth", "detr."), ("ranks.pth", "module.")] {
        write_checkpoint(&dir.path().join(file), prefix);
        let (losses, activations, messages) = dump(file, "got.safetensors");
        assert!(losses == recipe.0 && activations == recipe.1, "{file}");
        let expected = format!(
            "weights: {file} (model)\n{file}: this model has no transformer.text_encoder.embeddings.position_ids\n"
        );
        assert_eq!(messages, expected);
    }
}

#[test]
fn a_checkpoint_may_be_an_address() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.pth");
    write_checkpoint(&path, "");
    let bytes = std::fs::read(&path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/files/x.pth?download=1", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
        stream.write_all(&[head.as_bytes(), &bytes].concat()).unwrap();
    });
    let local = success(&["params", "--checkpoint", "x.pth"], dir.path());
    let first = success(&["params", "--checkpoint", &address], dir.path());
    server.join().unwrap();
    let again = success(&["params", "--checkpoint", &address], dir.path());
    assert!(local[0] == first[0] && first[0] == again[0]);
    let gone = mdetr(&["params", "--checkpoint", &address.replace("x.pth", "y.pth")], dir.path());
    let message = String::from_utf8(gone.stderr).unwrap();
    for part in ["cannot download http://127.0.0.1", "by hand, put the file at", "/files/y.pth"] {
        assert!(!gone.status.success() && message.contains(part), "{message}");
    }
}

#[test]
fn what_a_checkpoint_lacks_is_an_error() {
    let dir = TempDir::new().unwrap();
    let bare = base().join("../../checkpoint/state_dict_zip.pth");
    std::fs::copy(bare, dir.path().join("bare.pth")).unwrap();
    std::fs::write(dir.path().join("text.pth"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    for (file, parts) in [
        ("bare.pth", ["bare.pth holds no args", "--load"]),
        ("text.pth", ["text.pth is not a whole PyTorch file", "neither as a zip archive nor as a pickle"]),
    ] {
        let out = mdetr(&["params", "--checkpoint", file], dir.path());
        let message = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && !message.contains("panicked"), "{file}: {message}");
        parts.iter().for_each(|part| assert!(message.contains(part), "{file}: {message}"));
    }
}
