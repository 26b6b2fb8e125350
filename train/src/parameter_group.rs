//! The three published groups of parameters, each with a learning rate of its own.

use crate::schedule::Rates;

/// Which learning rate a parameter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `lr`
    Base,
    /// `lr_backbone`
    Backbone,
    /// `text_encoder_lr`
    TextEncoder,
}

impl Group {
    /// As published, the name decides.
    pub fn of(name: &str) -> Self {
        if name.contains("backbone") {
            Group::Backbone
        } else if name.contains("text_encoder") {
            Group::TextEncoder
        } else {
            Group::Base
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Group::Base => "base",
            Group::Backbone => "backbone",
            Group::TextEncoder => "text_encoder",
        }
    }

    /// Its learning rate among those of a step.
    pub fn rate(self, rates: Rates) -> f64 {
        match self {
            Group::Base => rates.base,
            Group::Backbone => rates.backbone,
            Group::TextEncoder => rates.text_encoder,
        }
    }
}
