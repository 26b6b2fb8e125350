//! Data, transforms, loader, engine, optimizer, schedules, evaluators, and the pictures that a run leaves.
#![forbid(unsafe_code)]

pub mod accumulate;
pub mod ahead;
pub mod checkpoint;
pub mod chunks;
pub mod collate;
pub mod config;
pub mod data;
pub mod device;
pub mod download;
pub mod draw;
pub mod dump;
pub mod emoji;
pub mod engine;
pub mod environment;
pub mod evaluate;
pub mod evaluators;
pub mod grounding;
pub mod initial_weights;
pub mod loader;
pub mod loss_scale;
pub mod optimizer;
pub mod parameter_group;
pub mod pictures;
pub mod progress;
pub mod published;
pub mod report;
pub mod run;
pub mod samples;
pub mod schedule;
pub mod session;
pub mod settings;
pub mod signals;
pub mod status;
pub mod tensorboard;
pub mod unbuilt;
