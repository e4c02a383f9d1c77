//! What the functions of Kubernetes's libraries cost at least and at most (`k8s.io/apiserver/pkg/cel/library/cost.go`).

use super::calls::{CallEstimate, first_parameter};
use super::estimate::{Argument, Estimator, Path};
use super::{CostEstimate, LIST, OBJECT, PATTERN, SizeEstimate, TRAVERSAL};
use crate::cel::ast::Literal;
use crate::cel::types::Type;

const ONE: CostEstimate = CostEstimate { min: 1, max: 1 };

/// What asking the authorizer costs: as much as a third of what one expression may cost.
pub(super) const AUTHORIZATION: u64 = 350_000;

/// The length of the longest regular expression behind a named format.
const MAX_FORMAT_PATTERN: f64 = 128.0;

/// The longest name of a format.
const MAX_FORMAT_NAME: u64 = 64;

/// The sizes that addresses have: four bytes or sixteen.
const ADDRESS: SizeEstimate = SizeEstimate { min: 4, max: 16 };

/// What parsing a selector costs: its text, and the requirements that it may hold, one in two characters.
pub(super) fn selector_cost(length: SizeEstimate) -> CostEstimate {
    let requirements = length.scale(0.5).scale((LIST + OBJECT) as f64);
    CostEstimate::fixed(LIST).add(length.scale(TRAVERSAL)).add(requirements)
}

/// Functions that cost one, whatever their arguments.
pub(super) fn is_constant(function: &str) -> bool {
    matches!(
        function,
        "serviceAccount"
            | "path"
            | "group"
            | "resource"
            | "subresource"
            | "namespace"
            | "name"
            | "allowed"
            | "reason"
            | "error"
            | "errored"
            | "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery"
    )
}

impl Estimator<'_> {
    pub(super) fn kubernetes_cost(
        &mut self,
        function: &str,
        overload: &str,
        target: Option<&Argument>,
        args: &[Argument],
    ) -> Option<CallEstimate> {
        if is_constant(function) {
            return Some((ONE, None));
        }
        let size_of = |arg: &Argument| self.library_size(arg);
        Some(match (function, target, args) {
            ("check", ..) => (CostEstimate::fixed(AUTHORIZATION), None),
            ("fieldSelector" | "labelSelector", _, [text]) => (selector_cost(size_of(text)), None),
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target), _) => {
                (self.traversal(target), None)
            }
            ("url" | "jsonpatch.escapeKey", _, [text]) => (size_of(text).scale(TRAVERSAL), Some(size_of(text))),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(text), _) => {
                (size_of(text).scale(TRAVERSAL), Some(size_of(text)))
            }
            ("replace", Some(text), [from, to, ..]) => {
                let size = replaced(size_of(text), size_of(from), size_of(to));
                (size_of(text).scale(2.0 * TRAVERSAL), Some(size))
            }
            ("split", Some(text), args) => {
                let limit = args.get(1).and_then(|limit| self.checked.ast.literal(limit.id));
                let max = match limit {
                    Some(Literal::Int(limit)) => *limit as u64,
                    _ => size_of(text).max,
                };
                (size_of(text).scale(2.0 * TRAVERSAL), Some(SizeEstimate { min: 0, max }))
            }
            ("join", Some(list), args) => {
                let size = self.joined(list, args.first());
                (size.scale(TRAVERSAL), Some(size))
            }
            ("find" | "findAll", Some(text), [pattern, ..]) => {
                let size = size_of(text);
                let cost = size.add(SizeEstimate::fixed(1)).scale(TRAVERSAL);
                let result = SizeEstimate { min: 0, max: size.max };
                (cost.multiply(size_of(pattern).scale(PATTERN)), Some(result))
            }
            ("ip", ..) if overload == "cidr_ip" => (ONE, None),
            ("cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver", _, [text, ..]) => {
                (size_of(text).scale(TRAVERSAL), None)
            }
            ("ip.isCanonical", _, [text, ..]) => (size_of(text).scale(2.0 * TRAVERSAL), None),
            ("containsIP", _, [other, ..]) => {
                let by_text = (overload == "cidr_contains_ip_string").then(|| size_of(other).scale(TRAVERSAL));
                (ADDRESS.add(ADDRESS).scale(TRAVERSAL).add(by_text.unwrap_or_default()), None)
            }
            ("containsCIDR", _, [other, ..]) => {
                let cost = ADDRESS.add(ADDRESS).scale(TRAVERSAL).add(ADDRESS.scale(TRAVERSAL)).add(ONE);
                let by_text = (overload == "cidr_contains_cidr_string").then(|| size_of(other).scale(TRAVERSAL));
                (cost.add(by_text.unwrap_or_default()), None)
            }
            ("validate", _, [text, ..]) => (size_of(text).scale(TRAVERSAL).scale(MAX_FORMAT_PATTERN * PATTERN), None),
            ("_==_", _, [left, right]) if left.ty == right.ty => (equality(left, right)?, None),
            _ => return None,
        })
    }

    /// What looking at all items of a list once costs, or at all characters of a text.
    fn traversal(&self, target: &Argument) -> CostEstimate {
        let Some(item) = first_parameter(&target.ty) else {
            return self.library_size(target).scale(TRAVERSAL);
        };
        let each = match item {
            Type::String | Type::Bytes => ONE.add(self.item_size(target).scale(TRAVERSAL)),
            _ => ONE,
        };
        self.library_size(target).times(each)
    }

    fn item_size(&self, list: &Argument) -> SizeEstimate {
        let mut path: Path = list.path.clone();
        if !path.is_empty() {
            path.push("@items".into());
        }
        self.stated_size(&path).unwrap_or(SizeEstimate::UNKNOWN)
    }

    fn joined(&self, list: &Argument, separator: Option<&Argument>) -> SizeEstimate {
        let count = self.library_size(list);
        let items = match first_parameter(&list.ty) {
            Some(_) => count.multiply(self.item_size(list)),
            None => SizeEstimate::fixed(0),
        };
        let Some(separator) = separator else {
            return items;
        };
        let gaps = SizeEstimate { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
        items.add(self.library_size(separator).multiply(gaps))
    }
}

/// The size of a text in which parts are replaced.
fn replaced(text: SizeEstimate, from: SizeEstimate, to: SizeEstimate) -> SizeEstimate {
    let (mut count, mut kept) = (SizeEstimate::fixed(0), SizeEstimate::fixed(0));
    if from.min == 0 {
        // Nothing is found between any two characters.
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if to.max <= from.min {
        kept.max = text.max;
    } else {
        count.max = (text.max as f64 / from.min as f64).ceil() as u64;
    }
    if from.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if from.max <= to.min {
        kept.min = text.min;
    } else {
        count.min = (text.min as f64 / from.max as f64).ceil() as u64;
    }
    count.multiply(to).add(kept)
}

/// What comparing two values of one of Kubernetes's types costs.
fn equality(left: &Argument, right: &Argument) -> Option<CostEstimate> {
    match &left.ty {
        Type::Opaque(name, _) if matches!(&**name, "net.IP" | "net.CIDR") => Some(ONE),
        Type::Object(name) => match &**name {
            "kubernetes.Quantity" | "kubernetes.Semver" => Some(ONE),
            "kubernetes.NamedFormat" => Some(CostEstimate { min: 1, max: MAX_FORMAT_NAME }.scale(TRAVERSAL)),
            "kubernetes.URL" => {
                let max = right.size.map_or(1, |size| size.max);
                Some(CostEstimate { min: 1, max }.scale(TRAVERSAL))
            }
            name => name.starts_with("kubernetes.authorization.").then_some(ONE),
        },
        _ => None,
    }
}
