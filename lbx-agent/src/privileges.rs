//! What the agent may do: looked at before anything else, because what the kernel says later names no privilege.

use caps::{CapSet, Capability, errors::CapsError, has_cap};

/// All that the agent needs, whatever its user.
const NEEDED: [Capability; 4] =
    [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

/// The agent may not do what it has to.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// It lacks capabilities.
    #[error("this process lacks {}: run lbx-agent as root, or with {}", listed(.0), listed(&NEEDED))]
    Lacks(Vec<Capability>),
    /// The kernel does not say.
    #[error("cannot read the capabilities of this process: {0}")]
    Unknown(#[from] CapsError),
}

fn listed(capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Refuses where something is lacking.
pub fn check() -> Result<(), PrivilegeError> {
    let mut lacks = Vec::new();
    for capability in NEEDED {
        if !has(capability)? {
            lacks.push(capability);
        }
    }
    if lacks.is_empty() { Ok(()) } else { Err(PrivilegeError::Lacks(lacks)) }
}

fn has(capability: Capability) -> Result<bool, CapsError> {
    // It stands for these two (`bpf_capable` and `perfmon_capable` in include/linux/capability.h).
    let of_admin = matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON);
    Ok(has_cap(None, CapSet::Effective, capability)?
        || of_admin && has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named_first_and_then_all_that_is_needed() {
        let error = PrivilegeError::Lacks(vec![Capability::CAP_PERFMON]).to_string();
        assert_eq!(
            error,
            "this process lacks CAP_PERFMON: run lbx-agent as root, or with CAP_BPF, CAP_PERFMON, \
             CAP_NET_ADMIN, CAP_NET_RAW"
        );
    }
}
