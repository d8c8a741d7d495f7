//! Who may call what: one table, generated at build time from the `access` option of every method.
//!
//! What is not in the table is denied.

/// What a caller can be, decided by its certificate or by its socket and by nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Anybody who reaches the port, without a certificate.
    Anyone,
    /// A node with a worker's certificate.
    Worker,
    /// A node with a manager's certificate.
    Manager,
    /// An operator's certificate, or a permitted user on the local socket of a manager.
    Operator,
    /// A permitted user on the local socket of any node.
    Local,
}

/// One method's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// `/coracle.v1.Service/Method`
    pub path: &'static str,
    /// Who may call it.
    pub callers: &'static [Caller],
    /// Answered by the leader: other managers forward the call.
    pub leader: bool,
}

/// Every method there is, ordered by path.
pub const TABLE: &[Method] = include!(concat!(env!("OUT_DIR"), "/access_table.rs"));

/// The entry of a method, by the path of its request.
#[must_use]
pub fn method(path: &str) -> Option<&'static Method> {
    TABLE.binary_search_by(|method| method.path.cmp(path)).ok().map(|at| &TABLE[at])
}

/// Whether a caller that is all of `roles` may call `path`; unknown methods are denied.
#[must_use]
pub fn allows(path: &str, roles: &[Caller]) -> bool {
    method(path).is_some_and(|method| method.callers.iter().any(|caller| roles.contains(caller)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_method_has_callers() {
        assert!(TABLE.is_sorted_by(|a, b| a.path < b.path));
        assert!(TABLE.iter().all(|method| !method.callers.is_empty()));
    }

    #[test]
    fn what_is_unknown_is_denied() {
        let everybody = [Caller::Anyone, Caller::Worker, Caller::Manager, Caller::Operator, Caller::Local];
        assert!(!allows("/coracle.v1.Services/Nope", &everybody));
        assert!(!allows("", &everybody));
    }

    #[test]
    fn only_four_methods_are_open_to_anybody() {
        let open: Vec<_> =
            TABLE.iter().filter(|m| m.callers.contains(&Caller::Anyone)).map(|m| m.path).collect();
        // Issuing wants the token, recovering a proof of the old key over a challenge.
        let of_the_authority = ["Challenge", "GetRoot", "Issue", "Recover"];
        assert_eq!(open, of_the_authority.map(|method| format!("/coracle.v1.CertificateAuthority/{method}")));
    }
}
