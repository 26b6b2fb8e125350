//! Conversions between every pair of dtypes, where C defines what comes out.

use half::{bf16, f16};

use crate::support::{Float, Loaded, Random, for_each_device, one_schedule};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dtype {
    F32,
    F64,
    F16,
    Bf16,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
}
use Dtype::{Bf16, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};

const ALL: [(Dtype, &str); 12] = [
    (F32, "f32"),
    (F64, "f64"),
    (F16, "f16"),
    (Bf16, "bf16"),
    (I8, "i8"),
    (U8, "u8"),
    (I16, "i16"),
    (U16, "u16"),
    (I32, "i32"),
    (U32, "u32"),
    (I64, "i64"),
    (U64, "u64"),
];

/// A number of any dtype.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Float(f64),
    Integer(i128),
}
use Value::{Float as Real, Integer};

impl Dtype {
    /// Least and greatest of integers.
    fn range(self) -> Option<(i128, i128)> {
        Some(match self {
            I8 => (i8::MIN.into(), i8::MAX.into()),
            U8 => (0, u8::MAX.into()),
            I16 => (i16::MIN.into(), i16::MAX.into()),
            U16 => (0, u16::MAX.into()),
            I32 => (i32::MIN.into(), i32::MAX.into()),
            U32 => (0, u32::MAX.into()),
            I64 => (i64::MIN.into(), i64::MAX.into()),
            U64 => (0, u64::MAX.into()),
            F32 | F64 | F16 | Bf16 => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            I8 | U8 => 1,
            F16 | Bf16 | I16 | U16 => 2,
            F32 | I32 | U32 => 4,
            F64 | I64 | U64 => 8,
        }
    }

    /// As it is in memory: rounded to the nearest, or wrapped.
    fn encode(self, value: Value) -> Vec<u8> {
        match (value, self) {
            (Integer(x), F32) => (x as f32).to_le_bytes().to_vec(),
            (Integer(x), F64) => (x as f64).to_le_bytes().to_vec(),
            (Integer(x), F16 | Bf16) => self.encode(Real(x as f64)),
            (Integer(x), _) => x.to_le_bytes()[..self.bytes()].to_vec(),
            (Real(x), F32) => (x as f32).to_le_bytes().to_vec(),
            (Real(x), F64) => x.to_le_bytes().to_vec(),
            (Real(x), F16) => f16::of(x).to_le_bytes().to_vec(),
            (Real(x), Bf16) => bf16::of(x).to_le_bytes().to_vec(),
            (Real(x), _) => self.encode(Integer(x.trunc() as i128)),
        }
    }

    fn decode(self, bytes: &[u8]) -> Value {
        let mut wide = [0; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = i128::from_le_bytes(wide);
        match self {
            F32 => Real(f32::from_bits(bits as u32).into()),
            F64 => Real(f64::from_bits(bits as u64)),
            F16 => Real(f16::from_bits(bits as u16).to()),
            Bf16 => Real(bf16::from_bits(bits as u16).to()),
            U8 | U16 | U32 | U64 => Integer(bits),
            I8 | I16 | I32 | I64 => Integer(bits << (128 - 8 * self.bytes()) >> (128 - 8 * self.bytes())),
        }
    }

    /// A number that converts to `to` in one way only.
    fn random(self, to: Dtype, random: &mut Random) -> Value {
        loop {
            let value = match (self.range(), to) {
                // through f32 on the way to the halves, which holds 24 bits
                (Some(_), F16 | Bf16) => Integer((random.bits() as i32 >> (8 + random.below(24))).into()),
                (Some(_), _) => Integer((random.bits() as i64 >> random.below(64)).into()),
                (None, _) => Real(random.uniform(-1.0, 1.0) * 2_f64.powi(random.below(66) as i32 - 2)),
            };
            let value = self.decode(&self.encode(value));
            match (value, to.range()) {
                (Real(x), Some((least, most))) if !(least..=most).contains(&(x.trunc() as i128)) => {}
                _ => return value,
            }
        }
    }
}

fn check(loaded: &mut Loaded, (from, from_name): (Dtype, &str), (to, to_name): (Dtype, &str)) {
    let mut random = Random(from as u64 * 12 + to as u64);
    let mut values: Vec<Value> = (0..150).map(|_| from.random(to, &mut random)).collect();
    if from.range().is_none() && to.range().is_none() {
        values.extend([0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 1e-40, 5e-8, 65519.0, 65520.0, 1e300].map(Real));
        values.iter_mut().for_each(|value| *value = from.decode(&from.encode(*value)));
    }
    let x: Vec<u8> = values.iter().flat_map(|value| from.encode(*value)).collect();
    let (n, x) = (values.len(), loaded.device.upload(&x));
    let y = loaded.device.uninitialized::<u8>(n * to.bytes());
    let kernel = format!("convert_{from_name}_to_{to_name}");
    loaded.launch_over(&kernel, n, 64, &[(&y).into(), (&x).into(), (n as i32).into()]);
    let y: Vec<u8> = loaded.device.download(&y);
    for (value, bytes) in values.iter().zip(y.chunks_exact(to.bytes())) {
        let (got, want) = (to.decode(bytes), to.decode(&to.encode(*value)));
        assert!(got == want, "{kernel} of {value:?} is {got:?}, expected {want:?} ({})", loaded.name);
    }
}

#[test]
fn every_pair() {
    for_each_device("convert", &one_schedule(), |loaded| {
        for from in ALL {
            for to in ALL {
                check(loaded, from, to);
            }
        }
    });
}
