//! An explanation for people.

use std::fmt;
use std::time::Duration;

use super::{
    Considered, End, EndpointState, Explanation, Forwarded, Host, Outcome, Refusal, Times, Verdict,
};

/// More endpoints than these are counted and not listed.
const ENDPOINTS: usize = 20;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.request)?;
        writeln!(f, "configuration {}", self.generation)?;
        match &self.host {
            Host::Found {
                name,
                domains,
                origin,
            } => {
                writeln!(f, "virtual host {name}  {origin}")?;
                writeln!(f, "  answers for {}", domains.join(", "))?;
            }
            Host::Refused => writeln!(f, "virtual host none")?,
            Host::Unknown => writeln!(f, "virtual host none: the host is passed through")?,
        }
        if !self.routes.is_empty() {
            writeln!(f, "routes")?;
            self.routes.iter().try_for_each(|one| one.fmt(f))?;
        }
        for outcome in &self.outcomes {
            outcome.fmt(f)?;
        }
        for told in &self.told {
            match &told.origin {
                Some(origin) => writeln!(f, "told by {}  {origin}", told.what)?,
                None => writeln!(f, "told by {}", told.what)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Considered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match &self.verdict {
            Verdict::Taken(_) => "->",
            Verdict::Mismatch { .. } | Verdict::Unreached => "  ",
        };
        writeln!(f, "  {mark} {}  {}", self.name, self.origin)?;
        match &self.verdict {
            Verdict::Mismatch { wanted, found } => {
                writeln!(f, "       no: wants {wanted}; the request has {found}")
            }
            Verdict::Taken(share) => {
                writeln!(
                    f,
                    "       takes {} of them: {}",
                    percent(*share),
                    self.matcher
                )
            }
            Verdict::Unreached => writeln!(f, "       not reached: {}", self.matcher),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the requests", percent(self.share))?;
        if let Some(route) = &self.route {
            write!(f, ", by route {route}  {}", self.origin)?;
        }
        writeln!(f)?;
        if let Some((held, share)) = self.delay {
            writeln!(
                f,
                "  delay       {share} of them are held back for {held:?} (injected fault)"
            )?;
        }
        for limit in &self.limits {
            writeln!(f, "  limit       {limit}")?;
        }
        match &self.end {
            End::Direct { status, bytes } => {
                writeln!(
                    f,
                    "  answer      {status} with {bytes} bytes, by the route itself"
                )?;
            }
            End::Forward(forwarded) => forwarded.fmt(f)?,
            End::Redirect { status, location } => {
                writeln!(f, "  answer      {status} to {location}")?;
            }
            End::Refused(refusal) => refusal.fmt(f)?,
        }
        for change in &self.response_changes {
            writeln!(f, "  response    {change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  answer      {} (gRPC {}",
            self.status, self.grpc_status
        )?;
        if let Some(flag) = self.flag {
            write!(f, ", {flag}")?;
        }
        writeln!(f, ")  {}", self.text)
    }
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  cluster     {}  {}", self.cluster, self.origin)?;
        writeln!(f, "  sent as     {}", self.uri)?;
        for change in &self.request_changes {
            writeln!(f, "  request     {change}")?;
        }
        for mirror in &self.mirrors {
            let known = if mirror.exists {
                ""
            } else {
                ", which does not exist"
            };
            writeln!(
                f,
                "  copied      {} of them to {}{known}",
                mirror.share, mirror.cluster
            )?;
        }
        self.times.fmt(f)?;
        match &self.retry {
            None => writeln!(f, "  retries     none")?,
            Some(retry) => {
                writeln!(f, "  retries     {} on {}", retry.retries, retry.on)?;
                writeln!(f, "              {}", retry.limit)?;
            }
        }
        for limit in &self.limits {
            if let Some(most) = limit.limit {
                writeln!(
                    f,
                    "  limit       {} {} of {most} now",
                    limit.name, limit.now
                )?;
            }
        }
        writeln!(
            f,
            "  ejection    {}",
            self.ejection.as_deref().unwrap_or("never")
        )?;
        writeln!(
            f,
            "  connection  {:?}, within {:?}",
            self.protocol, self.connect_timeout
        )?;
        writeln!(f, "  secured     {}", self.security)?;
        self.endpoints(f)?;
        match &self.failure {
            Some(failure) => failure.fmt(f),
            None => Ok(()),
        }
    }
}

impl Forwarded {
    fn endpoints(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.endpoints.len();
        let noun = if count == 1 { "endpoint" } else { "endpoints" };
        writeln!(
            f,
            "  endpoints   {count} {noun}, {}  {}",
            self.balancing, self.endpoints_origin
        )?;
        if let Some(session) = &self.session {
            writeln!(f, "              {session} by the session of the request")?;
        }
        for member in self.endpoints.iter().take(ENDPOINTS) {
            write!(
                f,
                "              {}  weight {}",
                member.address, member.weight
            )?;
            if let Some(name) = &member.hostname {
                write!(f, "  named {name}")?;
            }
            if member.priority > 0 {
                write!(f, "  priority {}", member.priority)?;
            }
            match member.state {
                EndpointState::Admitted => writeln!(f)?,
                EndpointState::Ejected => writeln!(f, "  ejected")?,
                EndpointState::Unhealthy => writeln!(f, "  unhealthy")?,
            }
        }
        if count > ENDPOINTS {
            writeln!(f, "              and {} more", count - ENDPOINTS)?;
        }
        if self.panicking {
            writeln!(f, "              health is ignored: too few are admitted")?;
        }
        Ok(())
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = |time: Option<Duration>| match time {
            Some(time) => format!("{time:?}"),
            None => "no limit".to_owned(),
        };
        write!(f, "  time        {} in all", limit(self.timeout))?;
        write!(f, ", {} per try", limit(self.per_try))?;
        if let Some(idle) = self.idle {
            write!(f, ", {idle:?} without a byte")?;
        }
        if let Some(caller) = self.caller {
            write!(f, ", the caller waits {caller:?}")?;
        }
        writeln!(f)?;
        write!(f, "  attempts    {}", self.attempts)?;
        if self.attempts_if_slow < self.attempts {
            write!(
                f,
                ", of which {} can begin if each takes all of its time",
                self.attempts_if_slow
            )?;
        }
        writeln!(f, "; worst case {}", limit(self.worst_case))
    }
}

/// With at most four digits behind the point.
fn percent(share: f64) -> String {
    format!("{} %", (share * 1_000_000.0).round() / 10_000.0)
}
