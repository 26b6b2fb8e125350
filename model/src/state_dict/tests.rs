//! Files that PyTorch wrote, whole and broken.

use std::path::PathBuf;

use ::safetensors::tensor::TensorView;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/checkpoint")).join(name)
}

fn recorded(name: &str) -> Json {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

/// JSON has no infinities: they are recorded as text.
fn number(value: &Json) -> f32 {
    value.as_f64().map_or_else(|| value.as_str().unwrap().parse().unwrap(), |v| v as f32)
}

fn shape(entry: &Json) -> Vec<usize> {
    entry["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect()
}

#[test]
fn every_kind_of_tensor_reads_as_recorded() {
    let expected = recorded("odd.json");
    for name in ["odd_zip.pth", "odd_legacy.pth"] {
        let dict = StateDict::open(&golden(name), &["model", "state"]).unwrap();
        assert_eq!(dict.names().count(), expected.as_object().unwrap().len(), "{name}");
        for (key, tensor) in expected.as_object().unwrap() {
            let entry = dict.get(key).unwrap_or_else(|| panic!("{name}: {key}"));
            assert_eq!(entry.shape(), shape(tensor), "{name}: {key}");
            let values: Vec<u32> = dict.read(entry).unwrap().into_iter().map(f32::to_bits).collect();
            let want = tensor["values"].as_array().unwrap();
            assert_eq!(values, want.iter().map(|v| number(v).to_bits()).collect::<Vec<_>>(), "{name}: {key}");
        }
    }
}

#[test]
fn what_lies_beside_tensors_reads_too() {
    for name in ["odd_zip.pth", "odd_legacy.pth"] {
        let file = TorchFile::open(&golden(name)).unwrap();
        let nested = file.root().get("nested").unwrap().json().unwrap();
        assert_eq!(nested["tuple"], serde_json::json!([1, "two", 3.0, null, true]), "{name}");
        assert_eq!((nested["str_é"].as_str(), nested["negint"].as_i64()), (Some("unicode 😀"), Some(-129)), "{name}");
        assert_eq!(nested["bigint"].as_f64(), Some(2f64.powi(70)), "{name}");
        let args = file.root().get("args").unwrap().json().unwrap();
        assert_eq!(args["flags"][0], 1, "{name}: {args}");
        assert_eq!(file.root().get("epoch").unwrap().as_usize(), Some(300), "{name}");
    }
}

#[test]
fn a_published_checkpoint_reads_as_recorded() {
    let expected = recorded("checkpoint.json");
    let file = TorchFile::open(&golden("checkpoint_zip.pth")).unwrap();
    assert_eq!(file.root().get("args").unwrap().json().unwrap(), expected["args"]);
    for part in ["model", "model_ema"] {
        let dict = file.state_dict(file.root().get(part).unwrap()).unwrap();
        let expected = expected[part].as_object().unwrap();
        assert_eq!(dict.names().count(), expected.len());
        for (name, tensor) in expected {
            let entry = dict.get(name).unwrap();
            assert_eq!(entry.shape(), shape(tensor), "{name}");
            let values = dict.read(entry).unwrap();
            let first: Vec<f32> = tensor["first4"].as_array().unwrap().iter().map(number).collect();
            assert_eq!(values[..first.len()], first, "{name}");
            let sum: f64 = values.iter().copied().map(f64::from).sum();
            assert!((sum - tensor["sum"].as_f64().unwrap()).abs() <= 1e-9 * values.len() as f64, "{name}: {sum}");
        }
    }
}

#[test]
fn bare_and_nested_dictionaries_and_safetensors_open_alike() {
    let bare = StateDict::open(&golden("state_dict_zip.pth"), &["model"]).unwrap();
    assert_eq!(bare.get("conv1.weight").unwrap().shape(), [64, 3, 7, 7]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let (f16s, ints) = ([0x3c00u16, 0xc000].map(u16::to_le_bytes).concat(), 7i64.to_le_bytes());
    let views = [
        ("a.half", TensorView::new(Dtype::F16, vec![1, 2], &f16s).unwrap()),
        ("b.int", TensorView::new(Dtype::I64, vec![], &ints).unwrap()),
    ];
    let bytes = ::safetensors::serialize(views, None).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let dict = StateDict::open(&path, &["model"]).unwrap().rename(|name| Some(name.strip_prefix("a.")?.to_string()));
    assert_eq!(dict.names().collect::<Vec<_>>(), ["half"]);
    assert_eq!(dict.read(dict.get("half").unwrap()).unwrap(), [1.0, -2.0]);
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = StateDict::open(&path, &[]).unwrap_err();
        assert!(
            format!("{error:#}").contains("x.safetensors is not a whole safetensors file"),
            "{length}: {error:#}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pth");
    let edits = [
        ("odd_zip.pth", "FloatStorage", "ComplStorage", "f32: elements of torch.ComplStorage are not read here"),
        ("odd_zip.pth", "_rebuild_tensor_v2", "_rebuild_tensor_v9", "_utils._rebuild_tensor_v9 makes objects"),
        ("odd_zip.pth", "little", "middle", "its byte order is \"middle\""),
        ("odd_zip.pth", "data/13", "data/31", "expanded: its storage 13 is missing"),
        ("odd_zip.pth", "data.pkl", "code.pkl", "it has no data.pkl"),
        ("odd_legacy.pth", "little_endian", "little_Endian", "little-endian machine"),
        ("odd_legacy.pth", "K\x04K\x06\u{86}", "K\x04K\x09\u{86}", "it reaches to element"),
    ];
    for (file, from, to, expected) in edits {
        // One byte a character, as the files are no text.
        let latin1 = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<_>>();
        let text: String = std::fs::read(golden(file)).unwrap().into_iter().map(char::from).collect();
        assert!(text.contains(from), "{file}: {from}");
        std::fs::write(&path, latin1(&text.replace(from, to))).unwrap();
        let error = format!("{:#}", StateDict::open(&path, &["state"]).unwrap_err());
        assert!(error.contains(expected) && error.contains("x.pth"), "{from}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn broken_files_are_errors(
        name in prop::sample::select(vec!["odd_zip.pth", "odd_legacy.pth"]),
        changes in prop::collection::vec((0.0..1.0, any::<u8>()), 0..6),
        length in 0.0..2.0,
    ) {
        let mut bytes = std::fs::read(golden(name)).unwrap();
        let n = bytes.len() as f64;
        for (at, byte) in changes {
            bytes[(at * n) as usize] = byte;
        }
        bytes.truncate((length * n) as usize);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        if let Ok(dict) = StateDict::open(&path, &["state"]) {
            for name in dict.names() {
                let entry = dict.get(name).unwrap();
                let values = dict.read(entry).unwrap();
                prop_assert_eq!(values.len(), entry.shape().iter().product::<usize>());
            }
        }
    }
}
