//! Which OCI runtimes a user may ask for: pure.
//!
//! Invariant: without the operator's word nobody gets less isolation than the host's default gives.

/// How far a runtime keeps a workspace from its host, by the names that the projects give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Isolation {
    /// A process of the host's kernel, or something that we do not know.
    Shared,
    /// A kernel of its own: gVisor's, or a virtual machine's.
    OwnKernel,
}

impl Isolation {
    fn of(runtime: &str) -> Self {
        let is_one =
            |name: &str| runtime == name || runtime.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        // `runsc` and its platforms, such as `runsc-kvm`; shims by the names of containerd's.
        let shims = ["io.containerd.runsc.", "io.containerd.kata.", "io.containerd.kata-"];
        if is_one("runsc") || is_one("kata") || shims.iter().any(|shim| runtime.starts_with(shim)) {
            Self::OwnKernel
        } else {
            Self::Shared
        }
    }
}

/// What decides.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// Of a workspace that does not say.
    pub default: &'a str,
    /// Those that the operator allows besides; absent: those of a kernel of their own.
    pub allowed: Option<&'a [String]>,
}

impl Policy<'_> {
    pub fn allows(&self, runtime: &str) -> bool {
        if runtime == self.default {
            return true;
        }
        match self.allowed {
            Some(allowed) => allowed.iter().any(|name| name == runtime),
            None => Isolation::of(runtime) == Isolation::OwnKernel,
        }
    }

    /// Of those that a host has, in its order.
    pub fn of_host(&self, runtimes: &[String]) -> Vec<String> {
        runtimes.iter().filter(|name| self.allows(name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(default: &str, allowed: Option<&[&str]>) -> Vec<String> {
        let host = ["crun", "io.containerd.kata.v2", "kata-fc", "katana", "runc", "runsc", "runsc-kvm", "runsc2"];
        let allowed = allowed.map(|names| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        Policy { default, allowed: allowed.as_deref() }.of_host(&host.map(str::to_owned))
    }

    #[test]
    fn nobody_gets_less_than_the_default_by_choice() {
        let own_kernel = ["io.containerd.kata.v2", "kata-fc", "runsc", "runsc-kvm"];
        assert_eq!(allowed("runsc", None), own_kernel, "not even what most hosts have");
        let with_runc = ["io.containerd.kata.v2", "kata-fc", "runc", "runsc", "runsc-kvm"];
        assert_eq!(allowed("runc", None), with_runc);
    }

    #[test]
    fn the_operator_has_the_say() {
        assert_eq!(allowed("runsc", Some(&["runc", "gone"])), ["runc", "runsc"]);
        assert_eq!(allowed("runc", Some(&[])), ["runc"], "nothing but the default");
    }
}
