//! Weights under the names that others give them.

use mdetr_kernels::Precision;
use mdetr_kernels::Tensor;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

use super::*;
use crate::optimizer::Optimizer;
use crate::settings::Settings;

/// A small convolutional network and a small RoBERTa, with `settings` over them.
fn config(settings: &[&str]) -> RunConfig {
    let mut all = Settings::default();
    let json = r#"{"backbone": "conv5", "hidden_dim": 16, "nheads": 2, "enc_layers": 1, "dec_layers": 1,
        "dim_feedforward": 16, "num_queries": 3, "text_config": {"vocab_size": 5, "hidden_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "max_position_embeddings": 9}}"#;
    all.add_json(json, "small").unwrap();
    settings.iter().for_each(|s| all.add_assignment(s).unwrap());
    all.resolve().unwrap()
}

fn model(config: &RunConfig, seed: u64) -> Mdetr {
    let mut model = Mdetr::new(&config.model, seed).unwrap();
    // What starts the same with any seed.
    for (_, p) in model.parameters.iter_mut() {
        if p.value.shape().len() == 1 {
            let values = vec![(100 * seed as usize + p.name.len()) as f32; p.value.len()];
            p.value = Tensor::from_slice(&values, p.value.shape(), mdetr_kernels::Device::Cpu);
        }
    }
    model
}

/// Writes the parameters to which `name` gives one, and `extra` tensors of one element.
fn write(path: &Path, model: &Mdetr, name: impl Fn(&str) -> Option<String>, extra: &[&str]) {
    let published = model.parameters.iter().filter_map(|(_, p)| {
        let bytes = p.to_published(&p.value).into_iter().flat_map(|v| (v as f32).to_le_bytes()).collect();
        Some((name(&p.name)?, p.published_shape(), bytes))
    });
    let extra = extra.iter().map(|name| (name.to_string(), vec![1], vec![0; 4]));
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = published.chain(extra).collect();
    let views =
        tensors.iter().map(|(n, shape, bytes)| (n, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Names of the parameters that `got` shares with `other`.
fn equal(got: &Mdetr, other: &Mdetr) -> Vec<String> {
    let pairs = got.parameters.iter().zip(other.parameters.iter());
    let same = pairs.filter(|((_, a), (_, b))| a.value.to_f64_vec() == b.value.to_f64_vec());
    same.map(|((_, p), _)| p.name.clone()).collect()
}

fn start(settings: &[String]) -> Result<Mdetr, String> {
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let config = config(&settings);
    let mut model = model(&config, 1);
    initial_weights(&config, &mut model).map_err(|e| format!("{e:#}"))?;
    Ok(model)
}

fn set(key: &str, path: &Path) -> String {
    format!("{key}={}", path.display())
}

#[test]
fn a_pretrained_part_needs_its_weights_or_a_word() {
    let error = |settings: &[&str]| start(&settings.iter().map(|s| s.to_string()).collect::<Vec<_>>()).err();
    let backbone = error(&["backbone=resnet18", "text_encoder_type=words"]).unwrap();
    for part in ["resnet18", "--backbone-weights", "https://download.pytorch.org/", "--load", "--from-scratch"] {
        assert!(backbone.contains(part), "{backbone}");
    }
    let text = error(&[]).unwrap();
    assert!(text.contains("roberta-base") && text.contains("--text-encoder-weights"), "{text}");
    assert_eq!(error(&["from_scratch=true"]), None);
    assert_eq!(error(&["text_encoder_type=words"]), None);
}

#[test]
fn parts_load_under_the_names_of_others() {
    let dir = TempDir::new().unwrap();
    let backbone = |prefix: &'static str| move |n: &str| Some(format!("{prefix}{}", n.strip_prefix(BACKBONE)?));
    for (network, prefix) in [
        ("resnet18", ""),
        ("conv5", "module."),
        ("conv5", "model."),
        ("conv5", "backbone.0.body."),
        ("conv5", "state.encoder_q."),
    ] {
        let settings = [format!("backbone={network}"), "text_encoder_type=words".into()];
        let from = model(&config(&settings.each_ref().map(String::as_str)), 2);
        let file = dir.path().join(format!("{network}.safetensors"));
        write(&file, &from, backbone(prefix), &["fc.weight", "fc.bias", "bn1.num_batches_tracked"]);
        let got = start(&[&settings[..], &[set("backbone_weights", &file)]].concat()).unwrap();
        let expected = got.parameters.iter().map(|(_, p)| p.name.clone()).filter(|n| n.starts_with(BACKBONE));
        assert_eq!(equal(&got, &from), expected.collect::<Vec<_>>(), "{network} {prefix:?}");
    }
    let from = model(&config(&[]), 2);
    let roberta = |prefix: &'static str| move |n: &str| Some(format!("{prefix}{}", n.strip_prefix(TEXT_ENCODER)?));
    for (i, prefix) in ["", "roberta.", "transformer.text_encoder."].into_iter().enumerate() {
        let folder = dir.path().join(format!("text{i}"));
        let name = |n: &str| roberta(prefix)(n).filter(|n| !n.contains("pooler"));
        write(&folder.join("model.safetensors"), &from, name, &["lm_head.bias", "roberta.embeddings.position_ids"]);
        let got = start(&[set("text_encoder_weights", &folder), "from_scratch=true".into()]).unwrap();
        let loaded = equal(&got, &from);
        let is_text = |n: &&String| n.starts_with(TEXT_ENCODER) && !n.contains("pooler");
        let expected: Vec<_> = got.parameters.iter().map(|(_, p)| &p.name).filter(is_text).collect();
        assert_eq!(loaded.iter().filter(is_text).collect::<Vec<_>>(), expected, "{prefix:?}");
        assert!(!loaded.iter().any(|n| n.starts_with(BACKBONE)), "{prefix:?}");
    }
}

#[test]
fn parts_that_do_not_fit_are_errors() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("r.safetensors");
    let from = model(&config(&[]), 2);
    let error = |name: &dyn Fn(&str) -> Option<String>| {
        write(&file, &from, |n| name(n.strip_prefix(BACKBONE)?), &["x"]);
        start(&[set("backbone_weights", &file), "from_scratch=true".into()]).err().unwrap()
    };
    let missing = error(&|n| (!n.starts_with("gn3")).then(|| n.into()));
    assert!(
        missing.contains("(2 problems)") && missing.contains("backbone.0.body.gn3.weight is missing"),
        "{missing}"
    );
    let swapped = error(&|n| Some(n.replace("gn1", "x").replace("gn4", "gn1").replace('x', "gn4")));
    assert!(swapped.contains("backbone.0.body.gn1.weight is [128], expected [32]"), "{swapped}");
    let other = error(&|_| None);
    assert!(other.contains("r.safetensors holds no conv1.weight"), "{other}");
}

#[test]
fn a_checkpoint_loads_as_far_as_it_goes() {
    let dir = TempDir::new().unwrap();
    let from = model(&config(&[]), 2);
    let all: Vec<String> = from.parameters.iter().map(|(_, p)| p.name.clone()).collect();
    let run = dir.path().join("run");
    let optimizer = Optimizer::new(&from.parameters, Precision::F32, Default::default());
    let position = crate::checkpoint::Position::default();
    std::fs::create_dir(&run).unwrap();
    crate::checkpoint::write(&run.join("checkpoint"), &config(&[]), &from.parameters, &optimizer, position).unwrap();
    assert_eq!(equal(&start(&[set("load", &run)]).unwrap(), &from), all);
    let file = dir.path().join("part.safetensors");
    for prefix in ["", "module.", "detr.", "module.detr."] {
        let name = |n: &str| Some(format!("{prefix}{n}")).filter(|n| !n.contains("bbox_embed"));
        write(&file, &from, name, &["mask_head.lay1.weight"]);
        let loaded = equal(&start(&[set("load", &file)]).unwrap(), &from);
        assert_eq!(loaded, all.iter().filter(|n| !n.contains("bbox_embed")).cloned().collect::<Vec<_>>(), "{prefix}");
    }
    let error = start(&[set("load", &file), "num_queries=4".into()]).err().unwrap();
    assert!(error.contains("query_embed.weight is [3, 16], expected [4, 16]"), "{error}");
    write(&file, &from, |_| None, &["x"]);
    assert!(start(&[set("load", &file)]).err().unwrap().contains("holds no parameter of this model"));
}
