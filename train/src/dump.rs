//! One forward pass laid open: every named activation under the names and layouts of the recorded goldens.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mdetr_autograd::{Gradients, Parameters, Tape};
use mdetr_kernels::{DType, Device, Precision, Tensor};
use mdetr_model::batch::{Packing, Text};
use mdetr_model::criterion::{Criterion, Losses};
use mdetr_model::mdetr::TOKEN_COLUMNS;
use mdetr_model::ragged::Layout;
use mdetr_model::{Batch, CriterionConfig, Mdetr, ModelConfig, Targets};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::collate::Collator;

/// A recorded case: `case.json` and `inputs.safetensors` in a folder.
pub struct RecordedCase {
    /// `case.json`.
    pub json: Value,
    /// Its architecture.
    pub model: ModelConfig,
    /// Its losses.
    pub criterion: CriterionConfig,
    /// Its images and captions.
    pub batch: Batch,
    /// Its boxes; `None` when the case records a forward pass only.
    pub targets: Option<Targets>,
}

/// Reads the architecture (and the text encoder's sizes) from JSON with the published argument names, either bare or as
/// a recorded `case.json` holds them.
pub fn read_configs(path: &Path) -> Result<(Value, ModelConfig, CriterionConfig)> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let json: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is not valid JSON", path.display()))?;
    let mut config = json.get("config").unwrap_or(&json).clone();
    if let (Some(text), Some(config)) = (json.get("text_config"), config.as_object_mut()) {
        config.insert("text_config".into(), text.clone());
    }
    let fits = || format!("{} does not describe a model", path.display());
    let model = serde_json::from_value(config.clone()).with_context(fits)?;
    let criterion = serde_json::from_value(config).with_context(fits)?;
    Ok((json, model, criterion))
}

impl RecordedCase {
    /// Reads a folder.
    pub fn read(dir: &Path) -> Result<Self> {
        let (json, model, criterion) = read_configs(&dir.join("case.json"))?;
        let path = dir.join("inputs.safetensors");
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = SafeTensors::deserialize(&bytes)
            .with_context(|| format!("{} is not a whole safetensors file", path.display()))?;
        let inputs = Inputs { file, path: &path };
        let batch = inputs.batch(&Collator::new(&model, 0))?;
        let targets = inputs.has("positive_map").then(|| inputs.targets(&batch)).transpose()?;
        Ok(RecordedCase { json, model, criterion, batch, targets })
    }
}

struct Inputs<'a> {
    file: SafeTensors<'a>,
    path: &'a Path,
}

impl Inputs<'_> {
    fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_ok()
    }

    fn values(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>)> {
        let view = self.file.tensor(name).with_context(|| format!("{}: {name} is missing", self.path.display()))?;
        let bytes = view.data();
        let values = match view.dtype() {
            safetensors::Dtype::F32 => {
                bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
            }
            safetensors::Dtype::I64 => {
                bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")) as f64).collect()
            }
            safetensors::Dtype::U8 => bytes.iter().map(|&b| f64::from(b)).collect(),
            other => anyhow::bail!("{}: {name} holds {other:?}", self.path.display()),
        };
        Ok((view.shape().to_vec(), values))
    }

    fn batch(&self, collator: &Collator) -> Result<Batch> {
        let (shape, ids) = self.values("input_ids")?;
        let (_, mask) = self.values("attention_mask")?;
        ensure!(shape.len() == 2, "{}: input_ids is {shape:?}, expected (B, T)", self.path.display());
        let ids: Vec<i32> = ids.iter().map(|&v| v as i32).collect();
        let counts = mask.chunks(shape[1]).map(|row| row.iter().sum::<f64>() as usize).collect();
        let text = Text { ids: Tensor::from_slice(&ids, &shape, Device::Cpu), counts };
        let mut images = Vec::new();
        for b in 0..shape[0] {
            let (size, values) = self.values(&format!("image{b}_u8"))?;
            let (h, w) = (size[1], size[2]);
            let rgb: Vec<u8> = (0..h * w * 3).map(|i| values[(i % 3) * h * w + i / 3] as u8).collect();
            let rgb = image::RgbImage::from_raw(w as u32, h as u32, rgb).expect("three bytes a pixel");
            images.push((crate::data::image::normalize(&rgb), [h, w]));
        }
        let images: Vec<_> = images.iter().map(|(pixels, size)| (pixels.as_slice(), *size)).collect();
        let (images, image_sizes) = collator.images(&images);
        Ok(Batch { images, image_sizes, text, packing: Packing::Exact })
    }

    fn targets(&self, batch: &Batch) -> Result<Targets> {
        let (mut boxes, mut counts) = (Vec::new(), Vec::new());
        for b in 0..batch.image_sizes.len() {
            let (shape, values) = self.values(&format!("target{b}.boxes"))?;
            counts.push(shape[0]);
            boxes.extend(values.iter().map(|&v| v as f32));
        }
        let (_, map) = self.values("positive_map")?;
        let map: Vec<f32> = map.iter().map(|&v| v as f32).collect();
        let total = counts.iter().sum::<usize>();
        let tokens = batch.text.shape()[1];
        // Spans cover the same tokens in both losses, so the alignment map is the soft-token map's first columns.
        let align = (0..total * tokens).map(|i| (i / tokens, i % tokens));
        let align: Vec<f32> =
            align.map(|(row, t)| if t < TOKEN_COLUMNS { map[row * TOKEN_COLUMNS + t] } else { 0.0 }).collect();
        let image: Vec<i32> =
            counts.iter().enumerate().flat_map(|(b, &n)| std::iter::repeat_n(b as i32, n)).collect();
        Ok(Targets {
            boxes: Tensor::from_slice(&boxes, &[total, 4], Device::Cpu),
            positive_map: Tensor::from_slice(&map, &[total, TOKEN_COLUMNS], Device::Cpu),
            align_map: Tensor::from_slice(&align, &[total, tokens], Device::Cpu),
            tokens,
            image_of_target: Tensor::from_slice(&image, &[total], Device::Cpu),
            counts,
        })
    }
}

/// Activations by name, in the layouts of the goldens.
pub type Activations = BTreeMap<String, Tensor>;

/// A decoder layer ("last", "aux0", ...) and the (query, target) pairs of each image.
pub type LayerPairs = (String, Vec<Vec<(usize, usize)>>);

/// What a forward and backward pass over a case leaves.
pub struct Trace {
    /// Every named activation.
    pub activations: Activations,
    /// Losses by published name.
    pub losses: Vec<(String, f64)>,
    /// The weighted total.
    pub total: f64,
    /// The matching.
    pub hungarian: Vec<LayerPairs>,
    /// The same as the losses take it: (L, T) i32.
    pub matches: Tensor,
    /// Gradients of all parameters that have one.
    pub gradients: Gradients,
}

/// One forward pass without losses, in the dtype of the parameters.
pub fn activations(model: &Mdetr, batch: &Batch, dtype: DType) -> Activations {
    let parameters = model.parameters.to_dtype(dtype);
    let tape = Tape::inference(&parameters, Device::Cpu, Precision::F32).with_observer();
    let (_, layout) = forward(model, &tape, batch, None);
    golden_layouts(tape.take_observed(), &layout)
}

/// A forward and backward pass with the model's losses, in `dtype`.
pub fn trace(model: &Mdetr, criterion: &Criterion, batch: &Batch, targets: &Targets, dtype: DType) -> Trace {
    trace_at(None, model, criterion, batch, targets, dtype)
}

/// The same with given position encodings of the valid image tokens (sum of h * w, C), such as those of another program.
pub fn trace_at(
    positions: Option<&Tensor>,
    model: &Mdetr,
    criterion: &Criterion,
    batch: &Batch,
    targets: &Targets,
    dtype: DType,
) -> Trace {
    let parameters = model.parameters.to_dtype(dtype);
    let tape = Tape::evaluating_with_gradients(&parameters, Device::Cpu, Precision::F32).with_observer();
    let how = How { device: Device::Cpu, precision: Precision::F32, loss_scale: 1.0, matches: None };
    trace_on(&tape, how, positions, model, criterion, batch, targets)
}

/// Where and in what a trace is computed.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// On a GPU no activations are kept.
    pub device: Device,
    /// Masters are f32.
    pub precision: Precision,
    /// The gradients are those of the loss times this.
    pub loss_scale: f64,
    /// (L, T) i32: this assignment instead of the optimal one.
    pub matches: Option<&'a Tensor>,
}

/// The same with f32 masters, in a precision, on a device.
pub fn trace_in(how: How, model: &Mdetr, criterion: &Criterion, batch: &Batch, targets: &Targets) -> Trace {
    let mut parameters = model.parameters.clone();
    parameters.set_precision(how.precision);
    parameters.to_device(how.device);
    let tape = Tape::evaluating_with_gradients(&parameters, how.device, how.precision);
    let tape = if how.device == Device::Cpu { tape.with_observer() } else { tape };
    trace_on(&tape, how, None, model, criterion, batch, targets)
}

fn trace_on<'t>(
    tape: &'t Tape<'t>,
    how: How,
    positions: Option<&Tensor>,
    model: &Mdetr,
    criterion: &Criterion,
    batch: &Batch,
    targets: &Targets,
) -> Trace {
    let (outputs, layout) = forward(model, tape, batch, positions);
    let losses = match how.matches {
        None => criterion.forward(&outputs, targets),
        Some(matches) => criterion.forward_with(&outputs, targets, matches.to_device(tape.device())),
    };
    drop(outputs);
    let scale = Tensor::scalar(how.loss_scale, Device::Cpu).to_dtype(losses.total.value().dtype());
    let is_observed = tape.is_observed();
    Trace {
        activations: if is_observed { golden_layouts(tape.take_observed(), &layout) } else { Activations::new() },
        matches: losses.matches.to_device(Device::Cpu),
        losses: losses.named(),
        total: losses.total.value().item(),
        hungarian: hungarian(&losses, targets),
        gradients: tape.backward_of(&losses.total, scale.to_device(tape.device())),
    }
}

fn forward<'t>(
    model: &Mdetr,
    tape: &'t Tape<'t>,
    batch: &Batch,
    positions: Option<&Tensor>,
) -> (mdetr_model::Outputs<'t>, Layout) {
    let network = &model.network;
    let dtype = tape.master_dtype();
    let images = network.encode_images(tape, &batch.images.to_dtype(dtype), &batch.image_sizes);
    let text = network.encode_text(tape, &batch.text);
    let outputs = match positions {
        None => network.predict(&images, &text, &batch.text),
        Some(t) => network.predict_at(tape.constant(t.to_dtype(dtype)), &images, &text, &batch.text),
    };
    (outputs, network.layout(&images, &batch.text))
}

fn hungarian(losses: &Losses, targets: &Targets) -> Vec<LayerPairs> {
    let layers = losses.ce.value().len();
    let name = |layer: usize| if layer == layers - 1 { "last".into() } else { format!("aux{layer}") };
    let order = std::iter::once(layers - 1).chain(0..layers - 1);
    order.map(|layer| (name(layer), losses.pairs(layer, targets))).collect()
}

impl Trace {
    /// Losses, matching and gradient norms, as the goldens record them.
    pub fn summary(&self, parameters: &Parameters) -> Value {
        let hungarian: serde_json::Map<String, Value> = self
            .hungarian
            .iter()
            .map(|(name, images)| {
                let lists = images.iter().map(|pairs| {
                    let (queries, targets): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
                    json!([queries, targets])
                });
                (name.clone(), lists.collect())
            })
            .collect();
        let norm = |t: &Tensor| t.to_f64_vec().iter().map(|v| v * v).sum::<f64>().sqrt();
        let grad_norms: serde_json::Map<String, Value> =
            self.gradients.iter().map(|(id, g)| (parameters[id].name.clone(), norm(g).into())).collect();
        let losses: serde_json::Map<String, Value> =
            self.losses.iter().map(|(name, v)| (name.clone(), (*v).into())).collect();
        json!({
            "losses": losses,
            "total_weighted_loss": self.total,
            "hungarian": hungarian,
            "grad_norms": grad_norms,
        })
    }
}

/// Turns what was observed into the goldens' layouts: images as (B, C, h, w), sequences as (S, B, C). Positions that the
/// model does not compute (padding behind an image) are zero; `valid` (B, h, w) tells which are real.
fn golden_layouts(observed: Vec<(String, Tensor)>, layout: &Layout) -> Activations {
    let [h, w] = layout.grid;
    let (b, t) = (layout.images(), layout.text_len);
    let grid = |rows: &Tensor, index: &Tensor| {
        let y = permute(&gather(rows, index), &[b, h * w, rows.last_axis()], [0, 2, 1]);
        y.reshape(&[b, rows.last_axis(), h, w])
    };
    let sequence = |x: &Tensor| {
        let mut index = layout.unpack_index(true).as_slice::<i32>().to_vec(); // (B, h * w)
        let text = layout.text_index(); // (B, T)
        let text = text.as_slice::<i32>();
        let of_image = |b: usize| [&index[b * h * w..(b + 1) * h * w], &text[b * t..(b + 1) * t]].concat();
        index = (0..b).flat_map(of_image).collect();
        let index = Tensor::from_slice(&index, &[index.len()], Device::Cpu);
        permute(&gather(x, &index), &[b, h * w + t, x.last_axis()], [1, 0, 2])
    };
    let transposed = |x: &Tensor| permute(x, &[b, x.rows() / b, x.last_axis()], [1, 0, 2]);
    let mut activations = Activations::new();
    for (name, x) in observed {
        let y = match name.as_str() {
            "backbone_last" | "input_proj" => {
                let c = x.last_axis();
                permute(&x, &[b, h * w, c], [0, 2, 1]).reshape(&[b, c, h, w])
            }
            "pos_embed" => grid(&x, &layout.unpack_index(false)),
            "text_resized" => transposed(&x),
            "img_memory" => sequence(&x),
            _ if name.starts_with("enc_layer") => sequence(&x),
            _ if name.starts_with("dec_layer") => transposed(&x),
            "hs" => {
                let layers = activations.keys().filter(|name| name.starts_with("dec_layer")).count();
                x.reshape(&[layers, b, x.rows() / layers / b, x.last_axis()])
            }
            _ => x,
        };
        activations.insert(name, y);
    }
    let valid: Vec<i32> =
        layout.unpack_index(false).as_slice::<i32>().iter().map(|&row| i32::from(row >= 0)).collect();
    activations.insert("valid".into(), Tensor::from_slice(&valid, &[b, h, w], Device::Cpu));
    activations
}

fn gather(x: &Tensor, index: &Tensor) -> Tensor {
    let (values, c) = (x.to_f64_vec(), x.last_axis());
    let index = index.as_slice::<i32>();
    let row = |&i: &i32| match usize::try_from(i) {
        Ok(i) => values[i * c..(i + 1) * c].to_vec(),
        Err(_) => vec![0.0; c],
    };
    let rows: Vec<f64> = index.iter().flat_map(row).collect();
    Tensor::from_slice(&rows, &[index.len(), c], Device::Cpu).to_dtype(x.dtype())
}

/// Reorders the axes of `x` seen as a three-dimensional array.
fn permute(x: &Tensor, shape: &[usize; 3], order: [usize; 3]) -> Tensor {
    let values = x.to_f64_vec();
    let strides = [shape[1] * shape[2], shape[2], 1];
    let [n0, n1, n2] = order.map(|axis| shape[axis]);
    let [s0, s1, s2] = order.map(|axis| strides[axis]);
    let mut out = Vec::with_capacity(values.len());
    for i in 0..n0 {
        for j in 0..n1 {
            out.extend((0..n2).map(|k| values[i * s0 + j * s1 + k * s2]));
        }
    }
    Tensor::from_slice(&out, &[n0, n1, n2], Device::Cpu).to_dtype(x.dtype())
}

/// Writes activations as a safetensors file: floats as F32, masks as U8.
pub fn save(path: &Path, activations: &Activations) -> Result<()> {
    use safetensors::tensor::{Dtype, TensorView};
    let tensors: Vec<(&String, Dtype, Vec<u8>)> = activations
        .iter()
        .map(|(name, t)| match t.dtype() {
            DType::I32 => (name, Dtype::U8, t.as_slice::<i32>().iter().map(|&v| v as u8).collect()),
            _ => (name, Dtype::F32, t.to_f64_vec().iter().flat_map(|&v| (v as f32).to_le_bytes()).collect()),
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, dtype, bytes)| {
            Ok((name.as_str(), TensorView::new(*dtype, activations[*name].shape().to_vec(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    mdetr_model::checkpoint::write_synced(path, &safetensors::serialize(views, None)?)
}
