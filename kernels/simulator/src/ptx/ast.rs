//! The syntax tree of a PTX module (PTX ISA 8.8 and 9.x, the part that NVRTC emits).

use std::collections::BTreeMap;

/// A translation unit.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// `.version 8.8`.
    pub version: (u32, u32),
    /// `.target sm_80`, whole: `sm_90a` too.
    pub target: String,
    /// `.file` by index: paths of the CUDA sources.
    pub files: BTreeMap<u32, String>,
    /// Module variables, in order.
    pub variables: Vec<Variable>,
    /// Kernels and device functions, declarations without a body included unless a definition follows.
    pub functions: Vec<Function>,
}

/// Fundamental types; untyped `.bN` apart from `.uN`, as some instructions tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
}

impl Type {
    /// Size in memory.
    pub fn bytes(self) -> u64 {
        match self {
            Type::Pred | Type::B8 | Type::U8 | Type::S8 => 1,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 2,
            Type::B32 | Type::U32 | Type::S32 | Type::F16x2 | Type::Bf16x2 | Type::F32 => 4,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 8,
            Type::B128 => 16,
        }
    }
}

/// State spaces of variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Space {
    Global,
    Const,
    Shared,
    Local,
    Param,
}

/// A variable, a parameter, or a returned value.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Where it lies.
    pub space: Space,
    /// Of an element.
    pub ty: Type,
    /// As written.
    pub name: String,
    /// `.align`, or the size of the type.
    pub align: u64,
    /// Size; 0 for an array of open size (`.extern .shared .b8 buffer[]`).
    pub bytes: u64,
    /// Initial bytes, shorter than `bytes` where the rest is zero; empty if there is no initializer.
    pub initial: Vec<u8>,
    /// 8-byte slots of `initial` that hold the address of a symbol plus an offset: (position, symbol, offset).
    pub relocations: Vec<(u64, String, i64)>,
    /// `.extern`.
    pub external: bool,
}

/// A kernel (`.entry`) or a device function (`.func`).
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// As mangled.
    pub name: String,
    /// `.entry`.
    pub is_kernel: bool,
    /// `.func (.param .b32 r) f`: returned values.
    pub returns: Vec<Variable>,
    /// Parameters, in order.
    pub parameters: Vec<Variable>,
    /// `.maxntid` or `.reqntid`, missing dimensions 1.
    pub max_threads: Option<[u32; 3]>,
    /// Absent for a declaration (`vprintf`).
    pub body: Option<Body>,
}

/// A function's code. Every list is flat: nested scopes are resolved by the parser.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// Registers, of every scope; [`Operand::Register`] indexes them.
    pub registers: Vec<(String, Type)>,
    /// `.local`, `.shared` and `.param` variables, of every scope; [`Symbol::Local`] indexes them.
    pub variables: Vec<Variable>,
    /// In order of the text.
    pub instructions: Vec<Instruction>,
    /// Lists of `.branchtargets`, as instruction indices; [`Operand::Targets`] indexes them.
    pub targets: Vec<Vec<usize>>,
}

/// `@!%p1 ld.global.v2.f32 {%f1, %f2}, [%rd1+8];`
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// The guard: a predicate register, and whether it is negated.
    pub guard: Option<(usize, bool)>,
    /// The opcode's parts: `ld`, `global`, `v2`, `f32`. A part may hold `::`, as in `shared::cta`.
    pub opcode: Vec<String>,
    /// In order; `d|p` is one [`Operand::Pair`]. The prototype of an indirect call is left out.
    pub operands: Vec<Operand>,
    /// The `.loc` in force: (file, line); line 0 means unknown.
    pub location: Option<(u32, u32)>,
    /// Line of the PTX text, from 1.
    pub line: u32,
}

/// What a name in an operand stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// A variable of [`Body::variables`].
    Local(usize),
    /// A parameter of the function.
    Parameter(usize),
    /// A returned value of the function.
    Return(usize),
    /// A module variable or a function.
    Module(String),
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register of [`Body::registers`].
    Register(usize),
    /// `!%p1`.
    Not(usize),
    /// An integer as written: two's complement of 64 bits.
    Integer(u64),
    /// `0f3F800000`: bits.
    Float(u32),
    /// `0d3FF0000000000000`, or a decimal `1.0`: bits.
    Double(u64),
    /// `%tid.x`, `%laneid`, `WARP_SZ`, `%clock64`, as written.
    Special(String),
    /// The sink `_`.
    Sink,
    /// `{%r1, %r2}`.
    Vector(Vec<Operand>),
    /// `%r1|%p1`.
    Pair(Box<Operand>, Box<Operand>),
    /// `[%rd1+8]`, `[symbol+4]`, `[16]` (an [`Operand::Integer`] base), `[%rd1, {%r1, %r2}]` (an [`Operand::List`] base).
    Address(Box<Operand>, i64),
    /// A variable's address (`mov.u64 %rd1, symbol`), or a called function; with an offset (`symbol+8`).
    Symbol(Symbol, i64),
    /// A label, as an instruction index; one past the end is possible.
    Label(usize),
    /// `(a, b)` of a call.
    List(Vec<Operand>),
    /// The name of a `.branchtargets` list.
    Targets(usize),
}
