//! MDETR: from images and captions to boxes and the caption tokens that they mean.

use mdetr_autograd::functional as f;
use mdetr_autograd::{ParameterId, Parameters, Tape, Var};
use mdetr_kernels::activation::Activation;
use mdetr_kernels::{DType, Tensor};

use crate::backbone::{Backbone, Conv};
use crate::batch::{Batch, Packing, Text};
use crate::config::ModelConfig;
use crate::init::Builder;
use crate::nn::{Linear, Mlp};
use crate::position_encoding::PositionEncoding;
use crate::ragged::{Layout, valid_cells};
use crate::transformer::{Tokens, Transformer, query_embedding};

/// Width of the soft-token prediction; its last column means "no object", so captions have 255 usable tokens.
pub const TOKEN_COLUMNS: usize = 256;

/// The model and its parameters.
#[derive(Debug)]
pub struct Mdetr {
    /// Every parameter and buffer, named as in the published checkpoints.
    pub parameters: Parameters,
    /// What it was built from.
    pub config: ModelConfig,
    /// The modules.
    pub network: Network,
}

/// The modules of [`Mdetr`]; their parameters live beside them.
#[derive(Debug)]
pub struct Network {
    /// Encoder, decoder, text encoder.
    pub transformer: Transformer,
    class_embed: Linear,
    bbox_embed: Mlp,
    query_embed: ParameterId,
    input_proj: Conv,
    backbone: Backbone,
    position_encoding: PositionEncoding,
    align_projections: Option<[Linear; 2]>, // of queries, of tokens
    num_queries: usize,
    aux_loss: bool,
}

/// What a forward pass predicts; L = number of decoder layers (1 without `aux_loss`), the last one being the prediction.
pub struct Outputs<'t> {
    /// (L, B, Q, 256): logits over caption tokens, the last column meaning "no object".
    pub logits: Var<'t>,
    /// (L, B, Q, 4): normalized cxcywh.
    pub boxes: Var<'t>,
    /// Projections for the contrastive alignment loss.
    pub align: Option<Alignment<'t>>,
}

/// L2-normalized projections into the space that queries and tokens share.
pub struct Alignment<'t> {
    /// (L, B, Q, c)
    pub queries: Var<'t>,
    /// (B, T, c)
    pub tokens: Var<'t>,
}

/// What the transformer needs of images.
#[derive(Clone)]
pub struct ImageFeatures<'t> {
    /// (B * h * w, C), padding included.
    pub grid: Var<'t>,
    /// h, w.
    pub grid_size: [usize; 2],
    /// Valid cells (rows, columns) of each image.
    pub sizes: Vec<[usize; 2]>,
    /// How they lie together with the captions' tokens.
    pub packing: Packing,
}

impl Mdetr {
    /// A new model. Each parameter's start depends on `seed` and its name alone.
    pub fn new(config: &ModelConfig, seed: u64) -> anyhow::Result<Self> {
        config.validate()?;
        let mut parameters = Parameters::default();
        let network = Network::new(Builder::new(&mut parameters, seed), config);
        let frozen = |name: &str| {
            let in_backbone = name.starts_with("backbone.0.");
            in_backbone && (config.lr_backbone == 0.0 || network.backbone.is_frozen(name))
                || config.freeze_text_encoder && name.contains("text_encoder")
        };
        for (_, p) in parameters.iter_mut() {
            p.requires_grad = !p.is_buffer && !frozen(&p.name);
        }
        if config.tie_key_query_init {
            network.transformer.tie_key_to_query(&mut Builder::new(&mut parameters, seed));
        }
        Ok(Mdetr { parameters, config: config.clone(), network })
    }

    /// The whole forward pass.
    pub fn forward<'t>(&self, tape: &'t Tape<'t>, batch: &Batch) -> Outputs<'t> {
        let network = &self.network;
        // Backward goes the other way: the backbone's activations are freed before the text encoder's gradients come, two
        // thirds of all.
        let text = network.encode_text(tape, &batch.text);
        let images = network.encode_images(tape, &batch.images, &batch.image_sizes);
        let images = ImageFeatures { packing: batch.packing, ..images };
        network.predict(&images, &text, &batch.text)
    }
}

impl Network {
    fn new(mut at: Builder, config: &ModelConfig) -> Self {
        let c = config.hidden_dim;
        let transformer = Transformer::new(at.at("transformer"), config);
        let class_embed = Linear::fan_in(at.at("class_embed").in_f32(), c, TOKEN_COLUMNS);
        let bbox_embed = Mlp::new(at.at("bbox_embed").in_f32(), &[c, c, c, 4]);
        let query_embed = query_embedding(at.at("query_embed"), config.num_queries, c);
        // The published order of names: the projection of the backbone's features comes before the backbone.
        let channels = Backbone::channels_of(&config.backbone);
        let input_proj = Conv::pointwise(at.at("input_proj"), channels, c);
        let backbone = Backbone::new(at.at("backbone").at(0).at("body"), config);
        let position_encoding =
            PositionEncoding::new(at.at("backbone").at(1), &config.position_embedding, config.hidden_dim);
        let align_projections = config.contrastive_align_loss.then(|| {
            ["contrastive_align_projection_image", "contrastive_align_projection_text"]
                .map(|name| Linear::fan_in(at.at(name).in_f32(), c, config.contrastive_loss_hdim))
        });
        Network {
            transformer,
            class_embed,
            bbox_embed,
            query_embed,
            input_proj,
            backbone,
            position_encoding,
            align_projections,
            num_queries: config.num_queries,
            aux_loss: config.aux_loss,
        }
    }

    /// images (B, H, W, 3), of which `sizes` pixels are valid; to be packed exactly.
    pub fn encode_images<'t>(&self, tape: &'t Tape<'t>, images: &Tensor, sizes: &[[usize; 2]]) -> ImageFeatures<'t> {
        let pixels = f::cast(&tape.constant(images.to_device(tape.device())), tape.compute_dtype());
        let features = self.backbone.forward(&pixels); // (B, h, w, channels)
        features.observe("backbone_last");
        let grid = self.input_proj.forward(&features); // (B, h, w, C)
        grid.observe("input_proj");
        let (&[_, height, width, _], &[b, h, w, c]) = (images.shape(), grid.shape()) else {
            panic!("images are {:?}", images.shape())
        };
        let sizes = sizes.iter().map(|s| [valid_cells(s[0], height, h), valid_cells(s[1], width, w)]).collect();
        ImageFeatures { grid: grid.reshape(&[b * h * w, c]), grid_size: [h, w], sizes, packing: Packing::Exact }
    }

    /// text (B, T) -> (B * T, C), ready for the encoder.
    pub fn encode_text<'t>(&self, tape: &'t Tape<'t>, text: &Text) -> Var<'t> {
        let features = self.transformer.encode_text(tape, text);
        features.observe("text_resized");
        features
    }

    /// How the tokens of these images and captions are packed.
    pub fn layout(&self, images: &ImageFeatures, text: &Text) -> Layout {
        let device = images.grid.tape().device();
        Layout::new(&images.sizes, images.grid_size, &text.counts, text.shape()[1], images.packing, device)
    }

    /// Predictions from features of B images and their captions.
    pub fn predict<'t>(&self, images: &ImageFeatures<'t>, text_features: &Var<'t>, text: &Text) -> Outputs<'t> {
        let layout = self.layout(images, text);
        let positions = self.position_encoding.forward(text_features.tape(), &layout);
        self.predict_at(positions, images, text_features, text)
    }

    /// Predictions with given position encodings of the valid image tokens ([`Layout::cells`], C).
    pub fn predict_at<'t>(
        &self,
        positions: Var<'t>,
        images: &ImageFeatures<'t>,
        text_features: &Var<'t>,
        text: &Text,
    ) -> Outputs<'t> {
        let tape = text_features.tape();
        let layout = self.layout(images, text);
        positions.observe("pos_embed");
        let positions = f::cast(&positions, tape.compute_dtype());
        let tokens = Tokens { image: images.grid.clone(), positions, text: text_features.clone() };
        let memory = self.transformer.encode(&tokens, &layout);
        drop(tokens);
        let hs = self.transformer.decode(&memory, self.query_embed, &layout);
        if tape.is_observed() {
            stack(&hs).detach().observe("hs");
        }
        let hs = if self.aux_loss { stack(&hs) } else { hs[hs.len() - 1].clone() }; // (L * B * Q, C)
        let hs = f::cast(&hs, tape.master_dtype());
        let outer = [hs.shape()[0] / (layout.images() * self.num_queries), layout.images(), self.num_queries];
        let unflatten = |y: &Var<'t>| y.reshape(&[&outer[..], &[y.value().last_axis()]].concat());
        let align = self.align_projections.as_ref().map(|[of_queries, of_tokens]| {
            let text_memory = f::gather_rows(&layout.text_index(), &[&memory.tokens]); // (B * T, C)
            let text_memory = f::cast(&text_memory, tape.master_dtype());
            let tokens = f::l2_normalize(&of_tokens.forward(&text_memory));
            let shape = [layout.images(), layout.text_len, tokens.value().last_axis()];
            Alignment {
                queries: unflatten(&f::l2_normalize(&of_queries.forward(&hs))),
                tokens: tokens.reshape(&shape),
            }
        });
        let outputs = Outputs {
            logits: unflatten(&self.class_embed.forward(&hs)),
            boxes: unflatten(&self.bbox_embed.forward(&hs, Activation::Sigmoid)),
            align,
        };
        outputs.observe();
        outputs
    }
}

/// Rows of several variables, one after the other.
fn stack<'t>(parts: &[Var<'t>]) -> Var<'t> {
    let rows: usize = parts.iter().map(|p| p.shape()[0]).sum();
    let index: Vec<i32> = (0..rows as i32).collect();
    let index = Tensor::from_slice(&index, &[rows], parts[0].tape().device());
    f::gather_rows(&index, &parts.iter().collect::<Vec<_>>())
}

impl Outputs<'_> {
    /// Number of decoder layers that predict.
    pub fn layers(&self) -> usize {
        self.logits.shape()[0]
    }

    /// The type of the predictions, and of the losses.
    pub fn dtype(&self) -> DType {
        self.logits.value().dtype()
    }

    /// The prediction's logits (B, Q, 256).
    pub fn last_logits(&self) -> Tensor {
        layer(&self.logits, self.layers() - 1)
    }

    /// The prediction's boxes (B, Q, 4).
    pub fn last_boxes(&self) -> Tensor {
        layer(&self.boxes, self.layers() - 1)
    }

    fn observe(&self) {
        let tape = self.logits.tape();
        if !tape.is_observed() {
            return;
        }
        let last = self.layers() - 1;
        for i in 0..=last {
            let prefix = if i == last { String::new() } else { format!("aux{i}.") };
            tape.observe(format!("{prefix}pred_logits"), &layer(&self.logits, i));
            tape.observe(format!("{prefix}pred_boxes"), &layer(&self.boxes, i));
            if let Some(align) = &self.align {
                tape.observe(format!("{prefix}proj_queries"), &layer(&align.queries, i));
            }
        }
        if let Some(align) = &self.align {
            tape.observe("proj_tokens", align.tokens.value());
        }
    }
}

fn layer(var: &Var, i: usize) -> Tensor {
    let t = var.value().slice(i..i + 1);
    t.reshape(&t.shape()[1..])
}
