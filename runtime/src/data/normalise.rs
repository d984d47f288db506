//! From pixels to the floats that a model takes.

/// How a pixel becomes a float: (scale·pixel − mean)/std, per channel where there is one value a channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Normalise {
    /// Pass 8-bit pixels as they are, for a model whose input is u8; the rest is ignored then.
    pub raw: bool,
    /// Factor of a pixel; `None`: pixel/255, divided, not multiplied by the rounded 1/255.
    pub scale: Option<f32>,
    /// Subtracted; empty: nothing; one value: all channels.
    pub mean: Vec<f32>,
    /// Divisor; empty: 1; one value: all channels.
    pub std: Vec<f32>,
}

impl Normalise {
    /// Normalises `plane`, the pixels (or already scaled floats if `scaled`) of `channel`, in place. Each step is rounded.
    pub fn apply(&self, plane: &mut [f32], channel: usize, scaled: bool) {
        let pick = |v: &[f32]| v.get(channel).or(v.first()).copied();
        match self.scale {
            _ if scaled => {}
            Some(s) => plane.iter_mut().for_each(|x| *x *= s),
            None => plane.iter_mut().for_each(|x| *x /= 255.0),
        }
        if let Some(m) = pick(&self.mean) {
            plane.iter_mut().for_each(|x| *x -= m);
        }
        if let Some(s) = pick(&self.std) {
            plane.iter_mut().for_each(|x| *x /= s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_by_255_or_follows_the_arguments() {
        let mut x = [0.0, 255.0, 51.0];
        Normalise::default().apply(&mut x, 0, false);
        assert_eq!(x, [0.0, 1.0, 51.0 / 255.0]);
        let n = Normalise { scale: Some(1.0), mean: vec![1.0, 2.0], std: vec![2.0], raw: false };
        let (mut first, mut second, mut scaled) = ([0.0], [255.0], [5.0]);
        n.apply(&mut first, 0, false);
        n.apply(&mut second, 1, false);
        Normalise { scale: Some(9.0), ..n }.apply(&mut scaled, 0, true);
        assert_eq!((first, second, scaled), ([-0.5], [126.5], [2.0]));
    }
}
