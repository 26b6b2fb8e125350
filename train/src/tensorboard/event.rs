//! The part of TensorFlow's `event.proto` and `summary.proto` that scalars need, with their field numbers.

/// Something that happened at a step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// The step that it belongs to.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// What happened.
    #[prost(oneof = "Payload", tags = "3, 5, 7")]
    pub payload: Option<Payload>,
}

/// What an event holds.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Payload {
    /// The first event of a file.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Values.
    #[prost(message, tag = "5")]
    Summary(Summary),
    /// A start of the program.
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// Values of a step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    /// One a tag.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// A scalar.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    /// Its name; a slash groups charts.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// The number.
    #[prost(float, tag = "2")]
    pub simple_value: f32,
}

/// [`SessionLog::status`] of a start: points from the event's step on that came before are void.
pub const START: i32 = 1;

/// What the program did.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionLog {
    /// [`START`] is the one that is written here.
    #[prost(int32, tag = "1")]
    pub status: i32,
}
