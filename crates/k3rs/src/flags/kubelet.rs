//! `--kubelet-arg NAME=VALUE`: the kubelet's own flags, of which those are known that have a meaning here.

use kubelet::{Policy, ThresholdError, Thresholds, statements};

/// What they say; upstream's defaults for the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct KubeletSettings {
    pub eviction_hard: Thresholds,
    pub max_pods: u32,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubeletArgumentError {
    #[error("--kubelet-arg {0}: write NAME=VALUE, such as max-pods=250")]
    Form(String),
    #[error("--kubelet-arg {0}: there is no such setting here: known are eviction-hard and max-pods")]
    Unknown(String),
    #[error("--kubelet-arg eviction-hard: {0}")]
    EvictionHard(#[from] ThresholdError),
    #[error("--kubelet-arg max-pods: {0} is no number of pods")]
    MaxPods(String),
}

impl Default for KubeletSettings {
    fn default() -> Self {
        Self { eviction_hard: Policy::default().hard, max_pods: 110 }
    }
}

impl KubeletSettings {
    /// The last word on each counts.
    pub fn parse(arguments: &[String]) -> Result<Self, KubeletArgumentError> {
        let mut settings = Self::default();
        for argument in arguments {
            let stated = argument.trim_start_matches("--").split_once('=');
            let (name, value) = stated.ok_or_else(|| KubeletArgumentError::Form(argument.clone()))?;
            match name {
                "eviction-hard" => settings.eviction_hard = Thresholds::least(&statements(value, '<')?)?,
                "max-pods" => {
                    settings.max_pods = value.parse().map_err(|_| KubeletArgumentError::MaxPods(value.to_owned()))?;
                }
                other => return Err(KubeletArgumentError::Unknown(other.to_owned())),
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_upstreams_flags() {
        let parse =
            |arguments: &[&str]| KubeletSettings::parse(&arguments.iter().map(|&it| it.into()).collect::<Vec<_>>());
        let least = |text: &str| Thresholds::least(&statements(text, '<').unwrap()).unwrap();
        assert_eq!(parse(&[]), Ok(KubeletSettings::default()));
        let stated = parse(&["max-pods=5", "eviction-hard=nodefs.available<1%", "--max-pods=7"]).unwrap();
        assert_eq!((stated.max_pods, stated.eviction_hard), (7, least("nodefs.available<1%")));
        for wrong in ["max-pods", "max-pods=many", "eviction-hard=disk<5%", "feature-gates=A=true"] {
            let refused = parse(&[wrong]).unwrap_err().to_string();
            assert!(refused.starts_with("--kubelet-arg "), "{refused}");
        }
    }
}
