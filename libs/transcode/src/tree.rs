//! Which route a path belongs to: a tree of segments where a literal wins over `*`, and `*` over `**`.
//!
//! A path is split on raw `/` before anything is decoded. An empty segment (`//`, a trailing slash) matches nothing.

use crate::template::Segment;
use crate::template::Template;
use std::collections::HashMap;

/// Index of a route in the table.
pub(crate) type RouteId = usize;

/// One HTTP method of a leaf; `None` stands for every method (`custom` with kind `*`).
#[derive(Debug)]
struct Entry {
    method: Option<http::Method>,
    route: RouteId,
}

/// Routes by their segments.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    literals: HashMap<String, Tree>,
    star: Option<Box<Tree>>,
    double_star: Option<Box<Tree>>,
    /// By verb; the empty one is none.
    leaves: HashMap<String, Vec<Entry>>,
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Route(RouteId),
    /// The path is known, with other methods: these, sorted.
    Methods(Vec<http::Method>),
    Nothing,
}

impl Tree {
    /// Adds a route.
    ///
    /// # Errors
    /// The route that has the same template and method already.
    pub(crate) fn insert(
        &mut self,
        template: &Template,
        method: Option<http::Method>,
        route: RouteId,
    ) -> Result<(), RouteId> {
        let mut node = self;
        for segment in &template.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Star => node.star.get_or_insert_default(),
                Segment::DoubleStar => node.double_star.get_or_insert_default(),
            };
        }
        let entries = node.leaves.entry(template.verb.clone().unwrap_or_default()).or_default();
        match entries.iter().find(|entry| entry.method == method) {
            Some(clash) => Err(clash.route),
            None => {
                entries.push(Entry { method, route });
                Ok(())
            }
        }
    }

    /// Looks up a path without its leading `/`, split on raw `/`.
    ///
    /// What follows the last `:` of the last segment is a verb if any route with that verb fits the rest, whatever
    /// its method; otherwise it belongs to the segment.
    pub(crate) fn find(&self, method: &http::Method, segments: &[&str]) -> Found {
        if let Some((stem, verb)) = segments.last().and_then(|last| last.rsplit_once(':'))
            && !verb.is_empty()
        {
            let mut stripped = segments.to_vec();
            stripped.pop();
            if !stem.is_empty() {
                stripped.push(stem);
            }
            let found = self.search(method, &stripped, verb);
            if found != Found::Nothing {
                return found;
            }
        }
        self.search(method, segments, "")
    }

    fn search(&self, method: &http::Method, segments: &[&str], verb: &str) -> Found {
        if segments.iter().any(|segment| segment.is_empty()) {
            return Found::Nothing;
        }
        let mut others = Vec::new();
        if let Some(route) = self.descend(method, segments, verb, &mut others) {
            return Found::Route(route);
        }
        if others.is_empty() {
            return Found::Nothing;
        }
        others.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        others.dedup();
        Found::Methods(others)
    }

    fn descend(
        &self,
        method: &http::Method,
        segments: &[&str],
        verb: &str,
        others: &mut Vec<http::Method>,
    ) -> Option<RouteId> {
        if let Some((first, rest)) = segments.split_first() {
            let literal = self.literals.get(*first);
            for child in literal.into_iter().chain(self.star.as_deref()) {
                if let Some(route) = child.descend(method, rest, verb, others) {
                    return Some(route);
                }
            }
        } else if let Some(route) = self.leaf(method, verb, others) {
            return Some(route);
        }
        // After `**` come literals only, so each remainder is tried once and fails fast.
        let below = self.double_star.as_deref()?;
        (0..=segments.len())
            .find_map(|taken| below.descend(method, &segments[taken..], verb, others))
    }

    fn leaf(
        &self,
        method: &http::Method,
        verb: &str,
        others: &mut Vec<http::Method>,
    ) -> Option<RouteId> {
        let entries = self.leaves.get(verb)?;
        let exact = entries.iter().find(|entry| entry.method.as_ref() == Some(method));
        if let Some(entry) = exact.or_else(|| entries.iter().find(|entry| entry.method.is_none())) {
            return Some(entry.route);
        }
        others.extend(entries.iter().filter_map(|entry| entry.method.clone()));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::split_path;

    fn tree(routes: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (id, (method, template)) in routes.iter().enumerate() {
            let template = Template::parse(template).expect("a good template");
            tree.insert(&template, Some(method.parse().expect("a method")), id).expect("no clash");
        }
        tree
    }

    fn find(tree: &Tree, method: &str, path: &str) -> Option<RouteId> {
        match tree.find(&method.parse().expect("a method"), &split_path(&path[1..])) {
            Found::Route(route) => Some(route),
            Found::Methods(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn r6_literals_win_over_one_star_and_one_over_two() {
        let tree = tree(&[
            ("GET", "/a/b"),
            ("GET", "/a/*"),
            ("GET", "/a/**"),
            ("GET", "/a/b/c"),
            ("GET", "/*/*/d"),
        ]);
        for (path, route) in [
            ("/a/b", Some(0)),
            ("/a/x", Some(1)),
            ("/a", Some(2)),
            ("/a/b/c", Some(3)),
            ("/a/b/d", Some(2)),
            ("/x/b/d", Some(4)),
            ("/a/b/x/y", Some(2)),
            ("/x", None),
            ("/", None),
        ] {
            assert_eq!(find(&tree, "GET", path), route, "{path}");
        }
    }

    #[test]
    fn r6_a_dead_end_is_left_again() {
        let tree = tree(&[("GET", "/a/{x=b/**}/z"), ("GET", "/a/{x=**}"), ("GET", "/a/*/c")]);
        for (path, route) in [
            ("/a/b/z", 0),
            ("/a/b/c/z", 0),
            ("/a/b/z/z", 0),
            ("/a/b/d", 1),
            ("/a/b/c", 2),
            ("/a", 1),
        ] {
            assert_eq!(find(&tree, "GET", path), Some(route), "{path}");
        }
    }

    #[test]
    fn r7_a_verb_is_one_only_where_a_route_has_it() {
        let tree = tree(&[
            ("GET", "/person/{id}"),
            ("POST", "/person/{id}:verb"),
            ("POST", "/v1/{name=**}:purge"),
            ("GET", "/person"),
        ]);
        assert_eq!(find(&tree, "POST", "/person/jason:verb"), Some(1));
        assert_eq!(find(&tree, "GET", "/person/jason:other"), Some(0));
        assert_eq!(find(&tree, "GET", "/person/jason%3Averb"), Some(0));
        assert_eq!(find(&tree, "GET", "/person:other"), None);
        assert_eq!(find(&tree, "POST", "/v1/:purge"), Some(2));
        assert_eq!(find(&tree, "POST", "/v1/a/b:purge"), Some(2));
        assert_eq!(
            tree.find(&http::Method::GET, &["person", "jason:verb"]),
            Found::Methods(vec![http::Method::POST]),
            "a known verb with another method is not a name"
        );
    }

    #[test]
    fn r10_empty_segments_match_nothing() {
        let tree = tree(&[("GET", "/a/**"), ("GET", "/b/{x}"), ("GET", "/b")]);
        for path in ["/a/", "/a//b", "//a", "/b/", "/b//"] {
            assert_eq!(find(&tree, "GET", path), None, "{path}");
        }
    }

    #[test]
    fn r6_the_same_template_and_method_clash_whatever_the_variables() {
        let mut tree = tree(&[("GET", "/v1/{name=a/*}")]);
        let same = Template::parse("/v1/a/{other}").expect("a good template");
        assert_eq!(tree.insert(&same, Some(http::Method::GET), 1), Err(0));
        assert_eq!(tree.insert(&same, Some(http::Method::PUT), 1), Ok(()));
        assert_eq!(tree.insert(&same, None, 2), Ok(()));
    }
}
