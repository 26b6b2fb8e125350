//! From logits and normalized boxes to what users see.

use mdetr_kernels::{Device, Tensor};

use crate::box_ops::cxcywh_to_xyxy;

/// What one query predicts.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// 1 - P(no object).
    pub score: f32,
    /// xyxy in pixels of the original image, not clipped.
    pub bbox: [f32; 4],
    /// Probability of each of the 255 caption tokens.
    pub token_probabilities: Vec<f32>,
}

/// Predictions of each image: logits (B, Q, 256) and boxes (B, Q, 4), `sizes` the original (height, width).
#[track_caller]
pub fn postprocess(logits: &Tensor, boxes: &Tensor, sizes: &[[usize; 2]]) -> Vec<Vec<Prediction>> {
    let &[b, q, k] = logits.shape() else { panic!("postprocess: logits are {:?}", logits.shape()) };
    assert_eq!(boxes.shape(), [b, q, 4], "postprocess: boxes are {:?}, logits {:?}", boxes.shape(), logits.shape());
    assert_eq!(sizes.len(), b, "postprocess: {} sizes for {b} images", sizes.len());
    let [logits, boxes] = [logits, boxes].map(|t| t.to_device(Device::Cpu));
    let (logits, boxes) = (logits.as_slice::<f32>(), boxes.as_slice::<f32>());
    let prediction = |image: usize, query: usize| {
        let at = image * q + query;
        let probabilities = softmax(&logits[at * k..(at + 1) * k]);
        let [h, w] = sizes[image].map(|s| s as f32);
        let bbox = cxcywh_to_xyxy(std::array::from_fn(|i| boxes[at * 4 + i]));
        Prediction {
            score: 1.0 - probabilities[k - 1],
            bbox: [bbox[0] * w, bbox[1] * h, bbox[2] * w, bbox[3] * h],
            token_probabilities: probabilities[..k - 1].to_vec(),
        }
    };
    (0..b).map(|image| (0..q).map(|query| prediction(image, query)).collect()).collect()
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f32> = logits.iter().map(|v| (v - max).exp()).collect();
    let sum: f32 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}
