//! What one step of training is told besides its batch. Mirrors the numbers of the binary interface's `dorefac_train`.

/// Seed, counters and hyper-parameters of one step. All zero in inference, where no operator reads them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Context {
    /// Seed of the noise.
    pub seed: [u64; 2],
    /// Number of the step, from 1.
    pub step: u64,
    /// Number of the batch's first sample, where a batch is computed in parts.
    pub sample0: u64,
    /// Learning rate.
    pub lr: f64,
    /// Adam's β₁; the momentum of SGD.
    pub beta1: f64,
    /// Adam's β₂.
    pub beta2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Factor of the weight decay.
    pub weight_decay: f64,
    /// running = momentum·running + (1 − momentum)·batch.
    pub bn_momentum: f64,
    /// What the gradient of the loss is multiplied by; 1 unless losses are scaled.
    pub loss_scale: f64,
}

/// Names of the numbers that [`Context::hyper`] gives.
pub const HYPER: &[&str] =
    &["lr", "beta1", "beta2", "epsilon", "weight_decay", "bn_momentum", "loss_scale", "adam_rate", "adam_epsilon"];

impl Context {
    /// A number of the step as f32; `None` for an unknown name. `adam_rate` is lr·√(1−β₂ᵗ)/(1−β₁ᵗ), `adam_epsilon` is
    /// ε·√(1−β₂ᵗ): with it TensorFlow's form of Adam is PyTorch's. Both in f64, left to right, rounded once.
    pub fn hyper(&self, name: &str) -> Option<f32> {
        let root = || (1.0 - power(self.beta2, self.step)).sqrt();
        let value = match name {
            "lr" => self.lr,
            "beta1" => self.beta1,
            "beta2" => self.beta2,
            "epsilon" => self.epsilon,
            "weight_decay" => self.weight_decay,
            "bn_momentum" => self.bn_momentum,
            "loss_scale" => self.loss_scale,
            "adam_rate" => self.lr * root() / (1.0 - power(self.beta1, self.step)),
            "adam_epsilon" => self.epsilon * root(),
            _ => return None,
        };
        Some(value as f32)
    }
}

/// base^exponent by repeated squaring from the lowest bit of the exponent; no library's pow, so that all machines agree.
pub fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adam_rate_corrects_the_bias() {
        let c = Context { step: 1, lr: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-5, ..Context::default() };
        let expected = 1e-3 * 0.001f64.sqrt() / 0.1;
        assert!((f64::from(c.hyper("adam_rate").unwrap_or(0.0)) / expected - 1.0).abs() < 1e-6);
        let later = Context { step: 1 << 40, ..c };
        assert_eq!(later.hyper("adam_rate"), Some(1e-3));
        assert_eq!(later.hyper("adam_epsilon"), Some(1e-5));
        assert!((power(0.999, 1234) / 0.999f64.powi(1234) - 1.0).abs() < 1e-12);
        assert!(HYPER.iter().all(|n| c.hyper(n).is_some()) && c.hyper("gamma").is_none());
    }
}
