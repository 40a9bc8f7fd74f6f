//! Quantities of resources ("250m", "64Mi", "1e3") as Kubernetes reads, rounds, compares and writes them.
//!
//! A quantity is an exact number of nano-units. A finer number is rounded away from zero, one over 2⁶³−1 units is
//! cut there, as in Kubernetes. Written out, it has no fraction, and the largest suffix of its format that leaves
//! none; the text "0.5" thus comes back as "500m". The binary format has no suffix for parts of a unit: 1024 units or
//! more are rounded up to a whole number there.

use std::{cmp::Ordering, fmt, str::FromStr};

const NANO: i128 = 1_000_000_000;
const MILLI: i128 = 1_000_000;
const MAX: i128 = i64::MAX as i128 * NANO;
/// Digits that are read before the decimal point of an exponent's effect is certain to be over the cap.
const MAX_EXPONENT: i32 = 64;
/// A longer text is not a quantity anyone meant.
const MAX_LENGTH: usize = 128;

/// Of more units the thousandths do not fit into a number.
pub const MAX_MILLI_VALUE: i64 = i64::MAX / 1000;

/// How a quantity was written, and is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Powers of ten with a letter: `m`, `k`, `M`.
    DecimalSi,
    /// Powers of 1024: `Ki`, `Mi`.
    BinarySi,
    /// Powers of ten as `e3`, `E6`.
    DecimalExponent,
}

/// An amount of a resource. Two are equal when their amounts are, however they were written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is no quantity, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// Reads a quantity.
pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() || text.len() > MAX_LENGTH {
        return Err(QuantityError::Format);
    }
    let (negative, unsigned) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(if number.is_empty() { QuantityError::Format } else { QuantityError::Numeric });
    }
    let (factor, exponent, format) = scale(suffix)?;
    let nano = magnitude(whole, fraction, factor, exponent);
    Ok(Quantity { nano: if negative { -nano } else { nano }, format })
}

/// What a suffix multiplies by: a factor times a power of ten.
fn scale(suffix: &str) -> Result<(i128, i32, Format), QuantityError> {
    let decimal = |exponent| Ok((1, exponent, Format::DecimalSi));
    let binary = |shift: u32| Ok((1i128 << shift, 0, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let exponent: i32 = digits.parse().map_err(|_| QuantityError::Suffix)?;
            Ok((1, exponent.clamp(-MAX_EXPONENT, MAX_EXPONENT), Format::DecimalExponent))
        }
    }
}

/// The nano-units of `whole.fraction × factor × 10^exponent`, rounded up, cut at the cap. The text is bounded, so
/// every digit is looked at; what is over the cap saturates, what is below a nano-unit rounds.
fn magnitude(whole: &str, fraction: &str, factor: i128, exponent: i32) -> i128 {
    // The value is `digits × 10^-fraction.len()`; beyond 30 significant digits only the rounding can be touched.
    const KEPT: i32 = 30;
    let (mut digits, mut dropped, mut rest, mut kept) = (0i128, 0i32, false, 0i32);
    for byte in whole.bytes().chain(fraction.bytes()) {
        if kept < KEPT {
            digits = digits * 10 + i128::from(byte - b'0');
            kept += i32::from(digits > 0);
        } else {
            dropped += 1;
            rest |= byte != b'0';
        }
    }
    let mut power = exponent + 9 + dropped - i32::try_from(fraction.len()).unwrap_or(i32::MAX / 2);
    let mut nano = digits;
    // Divide before the binary factor only what the factor cannot bring back.
    while power > 0 && nano != 0 && nano <= MAX {
        nano *= 10;
        power -= 1;
    }
    if power > 0 {
        return if nano == 0 { 0 } else { MAX };
    }
    let negative_power = power.unsigned_abs();
    if factor > 1 {
        // Split so that neither product can overflow: n·f / 10^p = (n / 10^p)·f + (n % 10^p)·f / 10^p.
        let Some(divisor) = 10i128.checked_pow(negative_power) else { return i128::from(nano != 0 || rest) };
        let (quotient, remainder) = (nano / divisor, nano % divisor);
        let Some(high) = quotient.checked_mul(factor) else { return MAX };
        let low = match remainder.checked_mul(factor) {
            Some(product) => div_up(product, divisor, rest),
            // So fine a fraction is cut to what the arithmetic holds; the error is below one nano-unit in a million.
            None => div_up((remainder >> 60).saturating_mul(factor), (divisor >> 60).max(1), true),
        };
        return high.saturating_add(low).min(MAX);
    }
    match 10i128.checked_pow(negative_power) {
        Some(divisor) => div_up(nano, divisor, rest).min(MAX),
        None => i128::from(nano != 0 || rest),
    }
}

fn div_up(number: i128, divisor: i128, rest: bool) -> i128 {
    number / divisor + i128::from(number % divisor != 0 || rest)
}

/// Divides a number of either sign, away from zero.
fn away(nano: i128, divisor: i128) -> i128 {
    div_up(nano.abs(), divisor, false) * nano.signum()
}

impl Quantity {
    /// A whole number of units.
    pub fn from_value(value: i64, format: Format) -> Self {
        Quantity { nano: i128::from(value) * NANO, format }
    }

    /// A number of thousandths.
    pub fn from_milli(milli: i64, format: Format) -> Self {
        Quantity { nano: i128::from(milli) * MILLI, format }
    }

    /// Units, rounded away from zero.
    pub fn value(&self) -> i64 {
        clamp(away(self.nano, NANO))
    }

    /// Thousandths of a unit, rounded away from zero; the largest number where they do not fit.
    pub fn milli_value(&self) -> i64 {
        clamp(away(self.nano, MILLI))
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        self.nano.signum() as i32
    }

    /// The sum, in this quantity's format.
    #[must_use]
    pub fn plus(&self, other: &Quantity) -> Self {
        let nano = (self.nano + other.nano).clamp(-MAX, MAX);
        Quantity { nano, format: if self.nano == 0 { other.format } else { self.format } }
    }

    /// What is left, in this quantity's format; below zero if more is taken than there is.
    #[must_use]
    pub fn minus(&self, other: &Quantity) -> Self {
        self.plus(&Quantity { nano: -other.nano, format: other.format })
    }

    /// Thousand-millionths of a unit: the exact amount.
    pub fn nano(&self) -> i128 {
        self.nano
    }
}

fn clamp(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano.abs() < 1024 * NANO;
        match self.format {
            // Below 1024 a binary suffix says nothing and rounding would hurt.
            Format::BinarySi if !small => {
                let (mut number, mut step) = (away(self.nano, NANO), 0);
                while number % 1024 == 0 && step < 6 {
                    number /= 1024;
                    step += 1;
                }
                write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step])
            }
            format => {
                let (mut number, mut step) = (self.nano, 0usize);
                while number % 1000 == 0 && step < 9 {
                    number /= 1000;
                    step += 1;
                }
                if format == Format::DecimalExponent {
                    let exponent = i32::try_from(step).unwrap_or(0) * 3 - 9;
                    return if exponent == 0 { write!(f, "{number}") } else { write!(f, "{number}e{exponent}") };
                }
                write!(f, "{number}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][step])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the text: no panic, and what was read is written such that it is read again as the same amount,
        /// except that an amount of 1024 or more in the binary format has no fraction when written.
        #[test]
        fn any_text_is_read_or_refused(text in "[+-]?[0-9.]{0,40}([numkMGTPEeKi]{0,2}[+-]?[0-9]{0,5})|.{0,20}") {
            if let Ok(quantity) = parse(&text) {
                let written = quantity.to_string();
                let whole = quantity.format == Format::BinarySi && quantity.nano.abs() >= 1024 * NANO;
                let kept = if whole { away(quantity.nano, NANO) * NANO } else { quantity.nano };
                let again = parse(&written);
                prop_assert_eq!(again.map(|found| found.nano), Ok(kept), "{} was written as {}", text, written);
                if !whole {
                    prop_assert_eq!(again.unwrap().to_string(), written);
                }
            }
        }

        /// Exact arithmetic agrees with floating point as far as that goes.
        #[test]
        fn the_amount_is_the_numbers(whole in 0u32..1_000_000, fraction in 0u32..1000, suffix in 0usize..12) {
            let (suffix, factor) = [
                ("n", 1e-9), ("u", 1e-6), ("m", 1e-3), ("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("e2", 1e2),
                ("Ki", 1024.0), ("Mi", 1_048_576.0), ("Gi", 1_073_741_824.0), ("E-2", 1e-2),
            ][suffix];
            let quantity = parse(&format!("{whole}.{fraction:03}{suffix}")).unwrap();
            let expected = (f64::from(whole) + f64::from(fraction) / 1000.0) * factor;
            let found = quantity.nano as f64 / 1e9;
            prop_assert!((found - expected).abs() <= expected * 1e-9 + 1.1e-9, "{found} is not {expected}");
        }
    }

    #[test]
    fn texts_have_values_and_one_canonical_form() {
        let check = |text: &str, value: i64, milli: i64, canonical: &str| {
            let quantity = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let found = (quantity.value(), quantity.milli_value(), quantity.to_string());
            assert_eq!(found, (value, milli, canonical.to_owned()), "{text}");
            assert_eq!(parse(canonical).unwrap(), quantity, "{canonical} is another amount than {text}");
        };
        check("0", 0, 0, "0");
        check("100m", 1, 100, "100m");
        check("0.5", 1, 500, "500m");
        check("1.5", 2, 1500, "1500m");
        check("2", 2, 2000, "2");
        check("+2", 2, 2000, "2");
        check("-1.5", -2, -1500, "-1500m");
        check("1000", 1000, 1_000_000, "1k");
        check("1000m", 1, 1000, "1");
        check("100k", 100_000, 100_000_000, "100k");
        check("64Mi", 64 << 20, (64 << 20) * 1000, "64Mi");
        check("1.5Ki", 1536, 1_536_000, "1536");
        check("1.5Gi", 3 << 29, (3 << 29) * 1000, "1536Mi");
        check("0.5Ki", 512, 512_000, "512");
        check("1000Ki", 1_024_000, 1_024_000_000, "1000Ki");
        check("1e3", 1000, 1_000_000, "1e3");
        check("12E2", 1200, 1_200_000, "1200");
        check("1E", 1_000_000_000_000_000_000, i64::MAX, "1E");
        check(".5", 1, 500, "500m");
        check("5.", 5, 5000, "5");
        check("0.0000000001", 1, 1, "1n");
        check("1n", 1, 1, "1n");
        check("100E", i64::MAX, i64::MAX, "9223372036854775807");
        check("99999999999999999999999999999999999999999999", i64::MAX, i64::MAX, "9223372036854775807");
        check("1e-100", 1, 1, "1e-9");
        check("8Ei", i64::MAX, i64::MAX, "9223372036854775807");
    }

    #[test]
    fn other_texts_are_refused() {
        let long = "1".repeat(MAX_LENGTH + 1);
        for text in ["", "-", "m", "1 Gi", "1.2.3", "1KiB", "1K", "1ki", "ten", "1e", "1e1.5", "0x10", "1,5", &long] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn order_is_by_amount() {
        let quantity = |text| parse(text).unwrap();
        assert_eq!(quantity("1024"), quantity("1Ki"));
        assert!(quantity("999m") < quantity("1"));
        assert!(quantity("1G") < quantity("1Gi"));
        assert_eq!(quantity("1Gi").plus(&quantity("512Mi")).to_string(), "1536Mi");
        assert_eq!(quantity("1Gi").minus(&quantity("512Mi")).to_string(), "512Mi");
        assert_eq!(quantity("1").minus(&quantity("1500m")).nano(), -500_000_000);
    }
}
