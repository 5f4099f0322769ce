//! Colour spaces of the engine's shots and of the host's images, and the conversion between them.

/// A colour space that both sides are known to use. RGB is relative: 1 is white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourSpace {
    /// Rec.709 primaries, the sRGB curve (IEC 61966-2-1).
    Srgb,
    /// Rec.709 primaries, a gamma of 2.4 (ITU-R BT.1886).
    Gamma24,
    LinearRec709,
    AcesCg,
    Aces2065,
}

impl ColourSpace {
    pub const ALL: [Self; 5] = [Self::Srgb, Self::LinearRec709, Self::Gamma24, Self::AcesCg, Self::Aces2065];

    /// By OpenColorIO's names, as the engine has them, or by OpenFX 1.5's; "" is display-encoded as it is. None for others.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            ""
            | "sRGB Encoded Rec.709 (sRGB)"
            | "sRGB - Texture"
            | "srgb_tx"
            | "srgb_texture"
            | "srgb_rec709_display" => Some(Self::Srgb),
            "Gamma 2.4 Encoded Rec.709"
            | "Gamma 2.4 Rec.709 - Texture"
            | "g24_rec709_tx"
            | "rec1886_rec709_display" => Some(Self::Gamma24),
            "Linear Rec.709 (sRGB)" | "lin_rec709_srgb" | "lin_rec709" | "lin_srgb" => Some(Self::LinearRec709),
            "ACEScg" | "lin_ap1" | "lin_ap1_scene" => Some(Self::AcesCg),
            "ACES2065-1" | "lin_ap0" | "lin_ap0_scene" => Some(Self::Aces2065),
            _ => None,
        }
    }

    /// OpenColorIO's name in the engine's configuration.
    pub fn engine_name(self) -> &'static str {
        match self {
            Self::Srgb => "sRGB Encoded Rec.709 (sRGB)",
            Self::Gamma24 => "Gamma 2.4 Encoded Rec.709",
            Self::LinearRec709 => "Linear Rec.709 (sRGB)",
            Self::AcesCg => "ACEScg",
            Self::Aces2065 => "ACES2065-1",
        }
    }

    /// To linear light; odd-symmetric below 0.
    fn decode(self, value: f32) -> f32 {
        let size = value.abs();
        let linear = match self {
            Self::Srgb if size <= 0.040_45 => size / 12.92,
            Self::Srgb => ((size + 0.055) / 1.055).powf(2.4),
            Self::Gamma24 => size.powf(2.4),
            Self::LinearRec709 | Self::AcesCg | Self::Aces2065 => size,
        };
        linear.copysign(value)
    }

    fn encode(self, linear: f32) -> f32 {
        let size = linear.abs();
        let value = match self {
            Self::Srgb if size <= 0.003_130_8 => size * 12.92,
            Self::Srgb => 1.055 * size.powf(1.0 / 2.4) - 0.055,
            Self::Gamma24 => size.powf(1.0 / 2.4),
            Self::LinearRec709 | Self::AcesCg | Self::Aces2065 => size,
        };
        value.copysign(linear)
    }

    /// Linear light of its primaries to linear Rec.709 (Bradford adaptation to D65), by rows.
    fn to_rec709(self) -> [[f32; 3]; 3] {
        match self {
            Self::Srgb | Self::Gamma24 | Self::LinearRec709 => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            Self::AcesCg => [
                [1.705_051, -0.621_792, -0.083_259],
                [-0.130_256, 1.140_805, -0.010_548],
                [-0.024_003, -0.128_969, 1.152_972],
            ],
            Self::Aces2065 => [
                [2.521_686, -1.134_131, -0.387_555],
                [-0.276_480, 1.372_719, -0.096_239],
                [-0.015_378, -0.152_975, 1.168_353],
            ],
        }
    }

    /// The inverse of `to_rec709`.
    fn rec709_inverse(self) -> [[f32; 3]; 3] {
        match self {
            Self::Srgb | Self::Gamma24 | Self::LinearRec709 => self.to_rec709(),
            Self::AcesCg => [
                [0.613_097, 0.339_523, 0.047_379],
                [0.070_194, 0.916_354, 0.013_452],
                [0.020_616, 0.109_570, 0.869_815],
            ],
            Self::Aces2065 => [
                [0.439_633, 0.382_989, 0.177_378],
                [0.089_776, 0.813_439, 0.096_784],
                [0.017_541, 0.111_547, 0.870_912],
            ],
        }
    }
}

/// From one colour space to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conversion {
    from: ColourSpace,
    to: ColourSpace,
    /// Linear light to linear light; None where the primaries are the same.
    matrix: Option<[[f32; 3]; 3]>,
}

impl Conversion {
    /// None where there is nothing to convert.
    pub fn new(from: ColourSpace, to: ColourSpace) -> Option<Self> {
        let (first, second) = (from.to_rec709(), to.rec709_inverse());
        let product = std::array::from_fn(|row| {
            std::array::from_fn(|column| (0..3).map(|i| second[row][i] * first[i][column]).sum())
        });
        let matrix = (first != identity() || second != identity()).then_some(product);
        (from != to).then_some(Self { from, to, matrix })
    }

    /// Converts RGB; what more there is of the pixel stays.
    pub fn apply(&self, pixel: &mut [f32]) {
        let linear: [f32; 3] = std::array::from_fn(|channel| self.from.decode(pixel[channel]));
        let linear = self.matrix.map_or(linear, |rows| rows.map(|row| (0..3).map(|i| row[i] * linear[i]).sum()));
        for (value, linear) in pixel.iter_mut().zip(linear) {
            *value = self.to.encode(linear);
        }
    }
}

fn identity() -> [[f32; 3]; 3] {
    ColourSpace::LinearRec709.to_rec709()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_round_trip() {
        for from in ColourSpace::ALL {
            assert_eq!(ColourSpace::from_name(from.engine_name()), Some(from));
            for to in ColourSpace::ALL {
                let mut pixel = [0.2, -0.05, 1.7, 0.5];
                let (Some(there), Some(back)) = (Conversion::new(from, to), Conversion::new(to, from)) else {
                    assert_eq!(from, to);
                    continue;
                };
                there.apply(&mut pixel);
                back.apply(&mut pixel);
                assert!(
                    pixel.iter().zip([0.2, -0.05, 1.7, 0.5]).all(|(a, b)| (a - b).abs() < 1e-3),
                    "{from:?} {to:?} {pixel:?}"
                );
            }
        }
    }

    #[test]
    fn white_stays_white_and_grey_is_the_standards() {
        for space in ColourSpace::ALL {
            let mut white = [1.0; 3];
            if let Some(conversion) = Conversion::new(space, ColourSpace::LinearRec709) {
                conversion.apply(&mut white);
            }
            assert!(white.iter().all(|value| (value - 1.0).abs() < 2e-3), "{space:?} {white:?}");
        }
        let mut grey = [0.5; 3];
        Conversion::new(ColourSpace::Srgb, ColourSpace::LinearRec709).unwrap().apply(&mut grey);
        assert!((grey[0] - 0.214_041).abs() < 1e-5);
    }
}
