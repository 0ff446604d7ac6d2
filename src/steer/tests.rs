use tch::{Device, Kind, Tensor};

use super::{
    direction::Direction,
    response::{pearson, slope},
};

#[test]
fn lines_by_hand() {
    // y = 2 x: slope 2, r 1. Bent: points (1, 1), (2, 4): slope (1 + 8) / 5; with the origin r = 12/sqrt(6·26).
    assert!((slope(&[(-1.0, -2.0), (2.0, 4.0)]) - 2.0).abs() < 1e-12);
    assert!((pearson(&[(-1.0, -2.0), (2.0, 4.0)]) - 1.0).abs() < 1e-12);
    assert!((slope(&[(1.0, 1.0), (2.0, 4.0)]) - 1.8).abs() < 1e-12);
    // deviations of x: 0, 1, -1; of y: -2/3, 7/3, -5/3; products sum to 4, squares to 2 and 78/9.
    assert!((pearson(&[(1.0, 1.0), (2.0, 4.0)]) - 4.0 / (2.0_f64 * 78.0 / 9.0).sqrt()).abs() < 1e-12);
}

#[test]
fn directions_have_length_one_and_say_what_is_wrong() {
    let vector = Tensor::from_slice(&[3.0_f32, 0.0, 4.0]);
    let unit = Direction::new("v", [(2, vector)], 3).unwrap();
    let values = Vec::<f64>::try_from(unit.at(2).unwrap()).unwrap();
    assert!((values[0] - 0.6).abs() < 1e-12 && (values[2] - 0.8).abs() < 1e-12);
    assert!(unit.at(1).is_none());
    let refused = |vector: Tensor| Direction::new("v", [(2, vector)], 3).unwrap_err().to_string();
    let zeros = Tensor::zeros([3], (Kind::Float, Device::Cpu));
    assert_eq!(refused(zeros.shallow_clone()), "direction v, layer 2: the length is 0");
    assert_eq!(refused(&zeros / 0.0), "direction v, layer 2: the length is NaN");
    assert_eq!(
        refused(Tensor::zeros([2], (Kind::Float, Device::Cpu))),
        "direction v, layer 2: the shape is [2], not [3]"
    );
}

#[test]
fn random_directions_are_drawn_evenly_and_again_the_same() {
    let d = 4000;
    let of = |number, seed| Direction::random(number, &[1, 5], d, seed);
    let one = of(0, 7);
    let values = |direction: &Direction, layer| Vec::<f64>::try_from(direction.at(layer).unwrap()).unwrap();
    assert_eq!(values(&one, 5), values(&of(0, 7), 5));
    // Independent unit vectors of 4000 dimensions: their cosine has a standard deviation of 1/63.
    let others = [values(&one, 1), values(&of(1, 7), 5), values(&of(0, 8), 5)];
    for other in others {
        let cosine: f64 = values(&one, 5).iter().zip(&other).map(|(a, b)| a * b).sum();
        assert!(cosine.abs() < 0.08, "{cosine}");
    }
    // Normal numbers: their fourth moment is 3 (a uniform's 1.8); the standard deviation of the estimate is 0.15.
    let fourth = values(&one, 5).iter().map(|x| x.powi(4)).sum::<f64>() * d as f64;
    assert!((fourth - 3.0).abs() < 0.6, "{fourth}");
}
