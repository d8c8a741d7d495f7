//! The gate before every handler: the access table, and nothing else, says who may call what.

use coracle_proto::access;
use coracle_proto::status::{ApiError, Reason};
use http::{HeaderMap, Request};

use crate::caller::{Caller, FORWARDED_HEADER, ForwardedCaller, PassedOnBy};

/// Decides whether a request goes on. Afterwards the request carries its [`Caller`], who is the original one
/// when a manager passed the call on, and no header that claims anything of the kind.
///
/// # Errors
/// If the access table does not allow the call.
pub fn admit<B>(request: &mut Request<B>) -> Result<(), ApiError> {
    let direct = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Stranger);
    let caller = original(&direct, request.headers_mut())?;
    let path = request.uri().path();
    if access::method(path).is_none() {
        return Err(error(Reason::Forbidden, format!("no method {path}"), None));
    }
    if !access::allows(path, &caller.roles()) {
        return Err(denied(path, &caller));
    }
    if let (Caller::Forwarded(_), Some(manager)) = (&caller, direct.node()) {
        request.extensions_mut().insert(PassedOnBy(manager));
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

fn original(direct: &Caller, headers: &mut HeaderMap) -> Result<Caller, ApiError> {
    let Some(value) = headers.remove(FORWARDED_HEADER) else { return Ok(direct.clone()) };
    if !direct.roles().contains(&access::Caller::Manager) {
        return Err(error(Reason::Forbidden, "only managers pass calls on".to_owned(), None));
    }
    value
        .to_str()
        .ok()
        .and_then(ForwardedCaller::decode)
        .map(Caller::Forwarded)
        .ok_or_else(|| error(Reason::Forbidden, "the forwarded caller cannot be read".to_owned(), None))
}

fn denied(path: &str, caller: &Caller) -> ApiError {
    let operators =
        access::method(path).is_some_and(|method| method.callers.contains(&access::Caller::Operator));
    match caller {
        Caller::Local(user) if operators && !user.operator => error(
            Reason::Forbidden,
            "this node is not a manager, and its local socket speaks only for this node".to_owned(),
            Some("run the command on a manager, or with --host and an operator's certificate"),
        ),
        Caller::Stranger => error(
            Reason::Unauthenticated,
            format!("{path} needs a certificate of this cluster"),
            Some("join the cluster with a token, or use an operator's certificate"),
        ),
        _ => error(Reason::Forbidden, format!("{caller} may not call {path}"), None),
    }
}

fn error(reason: Reason, message: String, hint: Option<&str>) -> ApiError {
    ApiError { reason, message, hint: hint.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::LocalUser;

    fn request(path: &str, caller: Caller, forwarded: Option<&str>) -> Request<()> {
        let mut request = Request::builder().uri(path).body(()).unwrap();
        request.extensions_mut().insert(caller);
        if let Some(forwarded) = forwarded {
            request.headers_mut().insert(FORWARDED_HEADER, forwarded.parse().unwrap());
        }
        request
    }

    fn local(operator: bool) -> Caller {
        Caller::Local(LocalUser { uid: 0, pid: None, operator })
    }

    #[test]
    fn a_workers_socket_does_not_speak_for_an_operator() {
        let path = "/coracle.v1.Services/Create";
        assert!(admit(&mut request(path, local(true), None)).is_ok());
        let refused = admit(&mut request(path, local(false), None)).unwrap_err();
        assert_eq!(refused.reason, Reason::Forbidden);
        assert!(refused.hint.unwrap().contains("on a manager"));
    }

    #[test]
    fn nobody_but_a_manager_forwards() {
        let path = "/coracle.v1.Services/Create";
        for caller in [Caller::Stranger, local(false), local(true)] {
            assert!(admit(&mut request(path, caller, Some("operator root"))).is_err());
        }
    }

    #[test]
    fn an_unknown_method_is_denied() {
        assert!(admit(&mut request("/coracle.v1.Services/Nope", local(true), None)).is_err());
    }

    #[test]
    fn a_stranger_reaches_four_methods_only() {
        let open: Vec<_> = access::TABLE
            .iter()
            .filter(|m| admit(&mut request(m.path, Caller::Stranger, None)).is_ok())
            .collect();
        assert_eq!(open.len(), 4);
    }
}
