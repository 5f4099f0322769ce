//! Blending at every depth, against a plain computation.

use half::f16;

use super::*;

const SIZE: (usize, usize) = (6, 4);
const BOUNDS: Bounds = Bounds { x: 1, y: 1, width: 3, height: 2 };

/// A different colour in every pixel; the matte 0, 0.5, 1, 0, …
fn paint_pixels(bounds: Bounds) -> Vec<u8> {
    let mattes = [0.0, 0.5, 1.0];
    (0..bounds.width * bounds.height)
        .flat_map(|i| [0.1 + i as f32 / 50.0, 0.3, 1.7, mattes[i % 3]])
        .flat_map(|value| f16::from_f32(value).to_le_bytes())
        .collect()
}

/// A row of plate samples, none of them alike.
fn plate_row(depth: Depth, count: usize, seed: usize) -> Vec<u8> {
    let values: Vec<f32> =
        (0..count * CHANNELS).map(|i| ((i * 37 + seed * 11) % 97) as f32 / 97.0 * depth.white()).collect();
    let mut bytes = vec![0; count * depth.pixel_bytes()];
    encode(depth, &values, &mut bytes);
    bytes
}

fn blend(depth: Depth) -> Blend {
    Blend { depth, mix: 1.0, premultiplied: false, matte_view: false, conversion: None }
}

/// Without a format, at full size.
fn placed(size: (usize, usize), region: [i32; 4]) -> Option<Placement> {
    Placement::find(size, region, None, (1.0, 1.0))
}

fn exact() -> Placement {
    placed(SIZE, [0, 0, SIZE.0 as i32, SIZE.1 as i32]).unwrap()
}

#[test]
fn blends_only_where_matte_is_above_zero() {
    let pixels = paint_pixels(BOUNDS);
    let paint = Paint::new(SIZE.0, SIZE.1, BOUNDS, &pixels).unwrap();
    for depth in Depth::ALL {
        for y in 0..SIZE.1 {
            let plate = plate_row(depth, SIZE.0, y);
            let mut row = plate.clone();
            blend(depth).row(&mut row, (0, y as i32), &paint, &exact(), None, &mut Scratch::default());
            let mut expected = plate.clone();
            let from_top = SIZE.1 - 1 - y;
            for x in 0..SIZE.0 {
                let at = x * depth.pixel_bytes();
                let Some(colour) = paint.pixel(x, from_top).filter(|colour| colour[3] > 0.0) else { continue };
                let mut base = [0.0; CHANNELS];
                decode(depth, &plate[at..at + depth.pixel_bytes()], &mut base);
                let mixed: [f32; 3] =
                    std::array::from_fn(|c| base[c] * (1.0 - colour[3]) + colour[c] * depth.white() * colour[3]);
                encode(depth, &mixed, &mut expected[at..at + 3 * depth.sample_bytes()]);
            }
            assert_eq!(row, expected, "{depth:?} row {y}");
            assert_eq!(row != plate, (1..3).contains(&from_top), "{depth:?} row {y}");
        }
    }
}

#[test]
fn matte_zero_preserves_every_bit() {
    let bounds = Bounds { x: 0, y: 0, width: 2, height: 1 };
    let infinite = f16::INFINITY.to_le_bytes();
    let pixels: Vec<u8> = [infinite, infinite, infinite, [0, 0]].concat().repeat(2);
    let paint = Paint::new(2, 1, bounds, &pixels).unwrap();
    let odd = [0x7fc0_1234_u32, 0x8000_0000, 0xff80_0000, 0x0000_0001, 0x7fa0_0001, 1, 2, 3];
    let plate: Vec<u8> = odd.iter().flat_map(|bits| bits.to_ne_bytes()).collect();
    let mut row = plate.clone();
    let place = placed((2, 1), [0, 0, 2, 1]).unwrap();
    blend(Depth::Float).row(&mut row, (0, 0), &paint, &place, None, &mut Scratch::default());
    assert_eq!(row, plate);
}

#[test]
fn output_is_always_finite() {
    let values = [f32::NAN, f32::INFINITY, -f32::INFINITY, f32::NAN];
    for (matte, finite) in [(1.0, true), (f32::NAN, false), (-1.0, false)] {
        let pixels: Vec<u8> =
            [values[0], values[1], values[2], matte].iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let paint = Paint::new(1, 1, Bounds { x: 0, y: 0, width: 1, height: 1 }, &pixels).unwrap();
        let place = placed((1, 1), [0, 0, 1, 1]).unwrap();
        for depth in Depth::ALL {
            let plate = plate_row(depth, 1, 3);
            let mut row = plate.clone();
            blend(depth).row(&mut row, (0, 0), &paint, &place, None, &mut Scratch::default());
            let mut out = [0.0; CHANNELS];
            decode(depth, &row, &mut out);
            assert!(out.iter().all(|value| value.is_finite()), "{depth:?} {out:?}");
            assert_eq!(row != plate, finite, "{depth:?}");
        }
    }
}

#[test]
fn part_of_a_row_equals_the_whole() {
    let pixels = paint_pixels(BOUNDS);
    let paint = Paint::new(SIZE.0, SIZE.1, BOUNDS, &pixels).unwrap();
    let region = [-3, 10, -3 + SIZE.0 as i32, 10 + SIZE.1 as i32];
    let place = placed(SIZE, region).unwrap();
    let mut whole = plate_row(Depth::Byte, SIZE.0, 0);
    let mut parts = whole.clone();
    let blend = blend(Depth::Byte);
    blend.row(&mut whole, (-3, 12), &paint, &place, None, &mut Scratch::default());
    let (left, right) = parts.split_at_mut(8);
    blend.row(left, (-3, 12), &paint, &place, None, &mut Scratch::default());
    blend.row(right, (-1, 12), &paint, &place, None, &mut Scratch::default());
    assert_eq!(parts, whole);
    assert_ne!(whole, plate_row(Depth::Byte, SIZE.0, 0));
}

#[test]
fn premultiplied_host_gets_premultiplied_paint() {
    let bounds = Bounds { x: 0, y: 0, width: 1, height: 1 };
    let pixels: Vec<u8> = [0.5f32, 1.0, 0.25, 1.0].iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    let paint = Paint::new(1, 1, bounds, &pixels).unwrap();
    let place = placed((1, 1), [0, 0, 1, 1]).unwrap();
    let mut row: Vec<u8> = [0.1f32, 0.1, 0.1, 0.5].iter().flat_map(|v| v.to_ne_bytes()).collect();
    let blend = Blend { premultiplied: true, ..blend(Depth::Float) };
    blend.row(&mut row, (0, 0), &paint, &place, None, &mut Scratch::default());
    let mut out = [0.0; CHANNELS];
    decode(Depth::Float, &row, &mut out);
    assert_eq!(out, [0.25, 0.5, 0.125, 0.5]);
}

#[test]
fn smaller_image_is_box_filtered() {
    let bounds = Bounds { x: 0, y: 0, width: 4, height: 4 };
    let pixels: Vec<u8> = (0..16)
        .flat_map(|i| [1.0, 0.0, 0.0, if i % 4 < 2 { 1.0 } else { 0.0 }])
        .flat_map(|value| f16::from_f32(value).to_le_bytes())
        .collect();
    let paint = Paint::new(4, 4, bounds, &pixels).unwrap();
    let place = placed((4, 4), [0, 0, 2, 2]).unwrap();
    let mut row = vec![0; 8];
    blend(Depth::Byte).row(&mut row, (0, 0), &paint, &place, None, &mut Scratch::default());
    assert_eq!(row, [255, 0, 0, 0, 0, 0, 0, 0]);
    let place = placed((4, 4), [0, 0, 1, 1]).unwrap();
    let mut row = vec![0; 4];
    blend(Depth::Byte).row(&mut row, (0, 0), &paint, &place, None, &mut Scratch::default());
    assert_eq!(row, [128, 0, 0, 0]);
}

#[test]
fn other_aspect_is_fitted_and_centred() {
    let place = placed((100, 50), [0, 0, 200, 200]).unwrap();
    assert_eq!(place, Placement { left: 0.0, top: 150.0, scale: (0.5, 0.5) });
    assert_eq!(placed((0, 50), [0, 0, 200, 200]), None);
    assert_eq!(placed((100, 50), [0, 0, 0, 200]), None);
}

#[test]
fn matte_view_mix_and_holdout() {
    let pixels = paint_pixels(BOUNDS);
    let paint = Paint::new(SIZE.0, SIZE.1, BOUNDS, &pixels).unwrap();
    let mut row = plate_row(Depth::Byte, SIZE.0, 0);
    let matte = Blend { matte_view: true, ..blend(Depth::Byte) };
    matte.row(&mut row, (0, 1), &paint, &exact(), None, &mut Scratch::default());
    let shown: Vec<u8> = row.chunks(4).map(|pixel| pixel[0]).collect();
    assert_eq!(shown, [0, 0, 128, 255, 0, 0]);
    assert!(row.chunks(4).all(|pixel| pixel[3] == 255));

    let plate = plate_row(Depth::Byte, SIZE.0, 0);
    let mut row = plate.clone();
    let holdout = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0];
    blend(Depth::Byte).row(&mut row, (0, 1), &paint, &exact(), Some(&holdout), &mut Scratch::default());
    assert_ne!(row[8..12], plate[8..12]);
    assert_eq!(row[12..], plate[12..]);

    let mut row = plate.clone();
    let none = Blend { mix: 0.0, ..blend(Depth::Byte) };
    none.row(&mut row, (0, 1), &paint, &exact(), None, &mut Scratch::default());
    assert_eq!(row, plate);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn simd_equals_scalar() {
    if !is_x86_feature_detected!("avx2") {
        return;
    }
    let odd = [0.0, -0.0, 1.0, 0.25, -3.0, 70000.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40, 0.999];
    let pick = |seed: usize| (0..odd.len() * 4 * 13).map(move |i| odd[(i * (seed + 6) + i / 7 + seed) % odd.len()]);
    for depth in Depth::ALL {
        for (premultiplied, mix_by) in [(false, 1.0), (true, 0.3)] {
            let how = Blend { premultiplied, mix: mix_by, ..blend(depth) };
            let (mut base, mut paint): (Vec<f32>, Vec<f32>) = (pick(1).collect(), pick(4).collect());
            let (mut wide_base, mut wide_paint) = (base.clone(), paint.clone());
            mix(&how, &mut base, &mut paint);
            unsafe { simd::mix(&how, &mut wide_base, &mut wide_paint) };
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&base), bits(&wide_base), "{depth:?}");
            assert_eq!(bits(&paint), bits(&wide_paint), "{depth:?}");
        }
    }
}

#[test]
fn fast_path_equals_in_place() {
    let blend = blend(Depth::Float);
    let bounds = Bounds { x: 2, y: 0, width: 11, height: 1 };
    let pixels = paint_pixels(bounds);
    let paint = Paint::new(17, 1, bounds, &pixels).unwrap();
    let place = placed((17, 1), [0, 0, 17, 1]).unwrap();
    for shift in [0, 1, 4, 16, 17] {
        for x in -3..9 {
            let plate = plate_row(Depth::Float, 14, 3);
            let mut memory = vec![0; shift + plate.len()];
            let mut expected = plate.clone();
            blend.row(&mut expected, (x, 0), &paint, &place, None, &mut Scratch::default());
            if blend.row_from(&plate, &mut memory[shift..], (x, 0), &paint, &place) {
                assert_eq!(memory[shift..], expected, "{shift} {x}");
            }
        }
    }
}

#[test]
fn pixels_must_match_the_bounds() {
    let bounds = Bounds { x: 1, y: 1, width: 3, height: 2 };
    assert!(Paint::new(6, 4, bounds, &[0; 48]).is_some());
    assert!(Paint::new(6, 4, bounds, &[0; 47]).is_none());
    assert!(Paint::new(3, 4, bounds, &[0; 48]).is_none());
    let huge = Bounds { x: usize::MAX, y: 0, width: usize::MAX, height: 2 };
    assert!(Paint::new(6, 4, huge, &[]).is_none());
}

#[test]
fn overscan_and_crop_are_placed_by_the_format() {
    let format = Some([0.0, 0.0, 100.0, 50.0]);
    let whole = Placement { left: 0.0, top: 50.0, scale: (1.0, 1.0) };
    for region in [[-10, -5, 110, 55], [20, 10, 60, 30], [0, 0, 100, 50]] {
        assert_eq!(Placement::find((100, 50), region, format, (1.0, 1.0)), Some(whole), "{region:?}");
    }
    let half = Placement { left: 0.0, top: 25.0, scale: (2.0, 2.0) };
    let format = Some([0.0, 0.0, 50.0, 25.0]);
    assert_eq!(Placement::find((100, 50), [-5, -3, 55, 28], format, (0.5, 0.5)), Some(half));
    let other_project = Some([0.0, 0.0, 1920.0, 1080.0]);
    assert_eq!(Placement::find((100, 50), [0, 0, 100, 50], other_project, (1.0, 1.0)), Some(whole));
    assert_eq!(Placement::find((100, 50), [0, 0, 50, 25], other_project, (1.0, 1.0)), Some(half));
}
