//! `printf` and `assert` of device code.

use super::access::{Actor, Kinds, read};
use super::block::{Block, Stop};
use super::code::Space;
use super::registers::{LANES, Mask, Reg, Row, lanes_of};
use super::warp::{Group, Warp};
use crate::findings::Kind;
use crate::memory::Cursor;

/// Characters of a string, at most: what a launch prints is read by people.
const LONGEST: u64 = 64 << 10;

impl Block<'_> {
    /// `vprintf`: the arguments lie one after another, each aligned to its size.
    pub(super) fn print(
        &mut self,
        warp: &mut Warp,
        group: &Group,
        active: Mask,
        (format, arguments): (Reg<u64>, Reg<u64>),
        target: Row,
    ) -> Result<(), Stop> {
        let [formats, arguments] =
            [format, arguments].map(|r| warp.frame(group.frame).registers.b64[r.index as usize]);
        let mut counts = [0; LANES];
        for lane in lanes_of(active) {
            let actor = Actor { warp, group, lane };
            let format = self.string(actor, formats[lane])?;
            let mut at = arguments[lane];
            let mut count = 0;
            let text = print(
                &format,
                |size| {
                    count += 1;
                    at = at.next_multiple_of(size);
                    let value = self.word(actor, at, size)?;
                    at += size;
                    Ok(value)
                },
                |address| self.string(actor, address),
            )?;
            counts[lane] = count;
            self.grid.print(&text);
        }
        warp.set(group.frame, target, active, counts);
        Ok(())
    }

    /// `__assertfail(message, file, line, function)`.
    pub(super) fn assert_fail(
        &mut self,
        warp: &mut Warp,
        group: &Group,
        active: Mask,
        operands: &[Reg<u64>; 4],
    ) -> Result<(), Stop> {
        let values = operands.map(|register| warp.frame(group.frame).registers.b64[register.index as usize]);
        for lane in lanes_of(active) {
            let actor = Actor { warp, group, lane };
            let [message, file, function] =
                [values[0], values[1], values[3]].map(|row| self.string(actor, row[lane]));
            let line = values[2][lane] as u32;
            let message = format!("{}:{line}: {}: assertion {:?} failed", file?, function?, message?);
            self.fault(Kind::Assertion, warp, group, lane as u32, None, message);
        }
        Ok(())
    }

    fn word(&self, actor: Actor<'_>, address: u64, size: u64) -> Result<u64, Stop> {
        let mut cursor = Cursor::default();
        let place = self.checked(actor, (Space::Generic, address, size), Kinds::Read, None, &mut cursor)?;
        Ok(read(&place, 0, size))
    }

    fn string(&self, actor: Actor<'_>, address: u64) -> Result<String, Stop> {
        let mut bytes = Vec::new();
        for i in 0..LONGEST {
            match self.word(actor, address + i, 1)? {
                0 => break,
                byte => bytes.push(byte as u8),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Formats as C does. `next` gives an argument of so many bytes, `string` what an address points to.
fn print<E>(
    format: &str,
    mut next: impl FnMut(u64) -> Result<u64, E>,
    string: impl Fn(u64) -> Result<String, E>,
) -> Result<String, E> {
    let mut out = String::new();
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        let Some(end) = after.find(|c: char| c.is_ascii_alphabetic() && !"hlLqjzt".contains(c) || c == '%') else {
            out.push_str(&rest[start..]);
            return Ok(out);
        };
        let (options, conversion) = (&after[..end], &after[end..=end]);
        rest = &after[end + 1..];
        if conversion == "%" {
            out.push('%');
            continue;
        }
        let mut spec = Spec::default();
        let mut precision = false;
        for c in options.chars() {
            let number = if precision { spec.precision.get_or_insert(0) } else { &mut spec.width };
            match c {
                '*' => *number = next(4)? as usize,
                '.' => {
                    precision = true;
                    spec.precision = Some(0);
                }
                '0'..='9' if c != '0' || *number > 0 || precision => {
                    *number = (*number * 10 + c as usize - '0' as usize).min(4096);
                }
                '-' | '+' | ' ' | '#' | '0' => spec.flags.push(c),
                _ => {}
            }
        }
        let long = options.contains('l') || options.contains('j') || options.contains('z') || options.contains('t');
        let size = if long || "pseEfFgGaA".contains(conversion) { 8 } else { 4 };
        let value = next(size)?;
        out.push_str(&match conversion {
            "s" => spec.pad(string(value)?.chars().take(spec.precision.unwrap_or(usize::MAX)).collect()),
            "c" => spec.pad(char::from(value as u8).to_string()),
            "p" => spec.pad(format!("{value:#x}")),
            _ => spec.number(conversion, value, size),
        });
    }
    out.push_str(rest);
    Ok(out)
}

/// `%-08.3f` without its conversion.
#[derive(Default)]
struct Spec {
    flags: String,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn number(&self, conversion: &str, value: u64, size: u64) -> String {
        let signed = if size == 8 { value as i64 } else { i64::from(value as u32 as i32) };
        let float = f64::from_bits(value);
        let alternate = self.flags.contains('#');
        let (negative, digits) = match conversion {
            "d" | "i" => (signed < 0, signed.unsigned_abs().to_string()),
            "x" => (false, format!("{}{value:x}", if alternate && value != 0 { "0x" } else { "" })),
            "X" => (false, format!("{}{value:X}", if alternate && value != 0 { "0X" } else { "" })),
            "o" => (false, format!("{}{value:o}", if alternate { "0" } else { "" })),
            "u" => (false, value.to_string()),
            _ if !float.is_finite() => (float < 0.0, if float.is_nan() { "nan" } else { "inf" }.to_owned()),
            "f" | "F" => {
                let point = if alternate && self.precision == Some(0) { "." } else { "" };
                (float.is_sign_negative(), format!("{:.*}{point}", self.precision.unwrap_or(6), float.abs()))
            }
            "a" | "A" => (float.is_sign_negative(), hexadecimal(float.abs(), self.precision)),
            "e" | "E" => (float.is_sign_negative(), exponential(float.abs(), self.precision.unwrap_or(6))),
            _ => (float.is_sign_negative(), shortest(float.abs(), self.precision.unwrap_or(6).max(1))),
        };
        let integer = "dixXou".contains(conversion);
        let missing = if integer { self.precision.unwrap_or(0).saturating_sub(digits.len()) } else { 0 };
        let digits = if "EFGA".contains(conversion) { digits.to_uppercase() } else { digits };
        let sign = match (negative, conversion) {
            (true, _) => "-",
            (_, "x" | "X" | "o" | "u") => "",
            _ if self.flags.contains('+') => "+",
            _ if self.flags.contains(' ') => " ",
            _ => "",
        };
        let digits = format!("{}{digits}", "0".repeat(missing));
        let zeros = self.flags.contains('0') && !self.flags.contains('-') && !(integer && self.precision.is_some());
        if zeros && (integer || float.is_finite()) {
            return format!("{sign}{digits:0>width$}", width = self.width.saturating_sub(sign.len()));
        }
        self.pad(format!("{sign}{digits}"))
    }

    fn pad(&self, text: String) -> String {
        if self.flags.contains('-') {
            format!("{text:<width$}", width = self.width)
        } else {
            format!("{text:>width$}", width = self.width)
        }
    }
}

/// C's `%e`: an exponent of two digits at least.
fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// C's `%a`: the significand in hexadecimal, to so many digits after the point.
fn hexadecimal(value: f64, precision: Option<usize>) -> String {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    let (mut whole, exponent) = match (exponent, fraction) {
        (0, 0) => (0, 0),
        (0, _) => (0, -1022),
        _ => (1, exponent - 1023),
    };
    let digits = precision.unwrap_or(13);
    let mut fraction = u128::from(fraction);
    if digits < 13 {
        // halves go to the even digit
        let unit = 1 << (52 - 4 * digits);
        let half = unit / 2;
        let odd = (if digits == 0 { whole as u128 } else { fraction / unit }) % 2;
        fraction = (fraction + half - 1 + odd) / unit * unit;
        whole += (fraction >> 52) as i32;
        fraction &= (1 << 52) - 1;
    }
    let text = format!("{fraction:013x}");
    let text = match precision {
        None => text.trim_end_matches('0').to_owned(),
        Some(digits) => format!("{text:0<digits$}")[..digits].to_owned(),
    };
    let point = if text.is_empty() { "" } else { "." };
    format!("0x{whole}{point}{text}p{exponent:+}")
}

/// C's `%g`: so many significant digits, without trailing zeros.
fn shortest(value: f64, digits: usize) -> String {
    let scientific = exponential(value, digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent_value: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent_value < -4 || exponent_value >= digits as i32 {
        format!("{}e{exponent}", trim(mantissa))
    } else {
        trim(&format!("{value:.*}", (digits as i32 - 1 - exponent_value).max(0) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::print;

    #[test]
    fn formats_as_c_does() {
        let text = |format: &str, values: &[u64]| {
            let mut values = values.iter();
            print::<()>(format, |_| Ok(*values.next().unwrap()), |_| Ok("text".to_owned())).unwrap()
        };
        let f = f64::to_bits;
        for (format, values, expected) in [
            ("%d%%|%5d|%-5d|%05d|%+d", &[-3_i32 as u32 as u64, 42, 42, 42, 7][..], "-3%|   42|42   |00042|+7"),
            ("%u %x %#X %lld", &[4_294_967_295, 255, 255, u64::MAX], "4294967295 ff 0XFF -1"),
            (
                "%f %.2f %8.3f|%e|%g %g %g",
                &[f(1.5), f(-0.005), f(3.14167), f(12345.678), f(1e-5), f(0.1), f(1e6)],
                "1.500000 -0.01    3.142|1.234568e+04|1e-05 0.1 1e+06",
            ),
            (
                "%a %.1a %A %a|%#.0f %.0f",
                &[f(0.1), f(1.96875), f(-3.0), f(0.0), f(2.0), f(2.0)],
                "0x1.999999999999ap-4 0x2.0p+0 -0X1.8P+1 0x0p+0|2. 2",
            ),
            ("%s %c %*d end%", &[0, 65, 4, 7], "text A    7 end%"),
            ("%f %05.1f %E %G", &[f(f64::INFINITY), f(-2.5), f(0.5), f(f64::NAN)], "inf -02.5 5.000000E-01 NAN"),
        ] {
            assert_eq!(text(format, values), expected, "{format}");
        }
    }
}
