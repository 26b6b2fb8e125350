//! Epilogues: what is done to a product on its way to D.

use cudarc::cublaslt::sys::cublasLtEpilogue_t as Code;

/// What maps an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// max(x, 0).
    Relu,
    /// The tanh form of GELU.
    Gelu,
    /// x where the mask has a one, else 0.
    ReluGrad,
    /// x times the derivative of GELU at the auxiliary value.
    GeluGrad,
}

/// What the bias vector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// Unused.
    None,
    /// Added to every column.
    Add,
    /// Receives the sums of D's rows.
    GradD,
    /// Receives the sums of op(A)'s rows.
    GradA,
    /// Receives the sums of op(B)'s columns.
    GradB,
}

/// What the auxiliary buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aux {
    /// Unused.
    None,
    /// Bits that say where a ReLU was open.
    Mask,
    /// What GELU was applied to, in D's type.
    Input,
}

/// A `cublasLtEpilogue_t`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epilogue {
    /// What maps an element.
    pub activation: Activation,
    /// What the bias vector is.
    pub bias: Bias,
    /// What the auxiliary buffer is.
    pub aux: Aux,
}

impl Epilogue {
    /// All that there are.
    #[rustfmt::skip]
    pub const ALL: [(Code, Activation, Bias, Aux); 16] = [
        (Code::CUBLASLT_EPILOGUE_DEFAULT, Activation::None, Bias::None, Aux::None),
        (Code::CUBLASLT_EPILOGUE_BIAS, Activation::None, Bias::Add, Aux::None),
        (Code::CUBLASLT_EPILOGUE_RELU, Activation::Relu, Bias::None, Aux::None),
        (Code::CUBLASLT_EPILOGUE_RELU_BIAS, Activation::Relu, Bias::Add, Aux::None),
        (Code::CUBLASLT_EPILOGUE_RELU_AUX, Activation::Relu, Bias::None, Aux::Mask),
        (Code::CUBLASLT_EPILOGUE_RELU_AUX_BIAS, Activation::Relu, Bias::Add, Aux::Mask),
        (Code::CUBLASLT_EPILOGUE_DRELU, Activation::ReluGrad, Bias::None, Aux::Mask),
        (Code::CUBLASLT_EPILOGUE_DRELU_BGRAD, Activation::ReluGrad, Bias::GradD, Aux::Mask),
        (Code::CUBLASLT_EPILOGUE_GELU, Activation::Gelu, Bias::None, Aux::None),
        (Code::CUBLASLT_EPILOGUE_GELU_BIAS, Activation::Gelu, Bias::Add, Aux::None),
        (Code::CUBLASLT_EPILOGUE_GELU_AUX, Activation::Gelu, Bias::None, Aux::Input),
        (Code::CUBLASLT_EPILOGUE_GELU_AUX_BIAS, Activation::Gelu, Bias::Add, Aux::Input),
        (Code::CUBLASLT_EPILOGUE_DGELU, Activation::GeluGrad, Bias::None, Aux::Input),
        (Code::CUBLASLT_EPILOGUE_DGELU_BGRAD, Activation::GeluGrad, Bias::GradD, Aux::Input),
        (Code::CUBLASLT_EPILOGUE_BGRADA, Activation::None, Bias::GradA, Aux::None),
        (Code::CUBLASLT_EPILOGUE_BGRADB, Activation::None, Bias::GradB, Aux::None),
    ];

    /// The epilogue of a number of the library's.
    pub fn new(number: u32) -> Option<Self> {
        let found = Self::ALL.iter().find(|(code, ..)| *code as u32 == number);
        found.map(|&(_, activation, bias, aux)| Self { activation, bias, aux })
    }

    /// Whether the activation is a gradient: the auxiliary buffer is read.
    pub fn reads_aux(self) -> bool {
        matches!(self.activation, Activation::ReluGrad | Activation::GeluGrad)
    }

    /// Whether the bias vector is written.
    pub fn writes_bias(self) -> bool {
        matches!(self.bias, Bias::GradD | Bias::GradA | Bias::GradB)
    }
}

/// sqrt(2 / pi).
const SCALE: f64 = 0.797_884_560_802_865_4;
const CUBIC: f64 = 0.044_715;

/// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + (SCALE * (x + CUBIC * x * x * x)).tanh())
}

/// Its derivative.
pub fn gelu_grad(x: f64) -> f64 {
    let tanh = (SCALE * (x + CUBIC * x * x * x)).tanh();
    0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * SCALE * (1.0 + 3.0 * CUBIC * x * x)
}
