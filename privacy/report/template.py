"""The page as a Jinja2 template: text in a Python file, because app bundles carry no .html."""

TEMPLATE = """\
{%- macro word(key, text) -%}<a class="word" href="#w-{{ key }}">{{ text }}</a>{%- endmacro -%}
{%- macro table(id, caption, whole=False) -%}
<div class="scroll{{ " whole" if whole }}" role="region" tabindex="0" \
aria-labelledby="{{ id }}"><table>
<caption id="{{ id }}"><span>{{ caption }}</span></caption>{{ caller() }}</table></div>
{%- endmacro -%}
{%- macro name(text) -%}<bdi>{{ text }}</bdi>{%- endmacro -%}
{%- macro covered(value) -%}
{% if value == "yes" %}<span class="yes">yes</span>
{%- elif value == "no" %}<span class="no">no</span>{% else %}{{ value }}{% endif %}
{%- endmacro -%}
{%- macro spending(rows, id, caption) -%}
{% call table(id, caption) %}
<thead><tr><th scope="col" class="first">Hospital</th><th scope="col" class="n">Spent</th>
<th scope="col" class="n">Budget</th><th scope="col" class="n">Left</th><th scope="col">Used</th>
<th scope="col" class="n">{{ word("guess", "Best guess") }}</th>
<th scope="col" class="n">This run</th><th scope="col" class="n">Rounds</th>
<th scope="col" class="n">{{ v.units }}</th></tr></thead><tbody>
{% for row in rows %}
<tr><th scope="row">{{ name(row.hospital.name) }}</th>
<td class="n{{ " bad" if row.risk.over_budget }}">{{ row.hospital.spent.epsilon | loss }}</td>
<td class="n">{{ row.hospital.budget | budget }}</td>
<td class="n">{{ row.risk.left | left }}</td>
<td>{% if row.used is none %}\
<span class="soft">{{ "no budget" if row.hospital.budget is none else "unlimited" }}</span>\
{% else %}
<span class="used"><svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" \
aria-hidden="true"><rect class="track" width="100" height="8"/>\
<rect width="{{ [row.used, 100] | min }}" height="8" \
class="{{ "over" if row.risk.over_budget else "fill" }}"/></svg> \
{{ row.used }}&nbsp;%{{ ", over" if row.risk.over_budget }}</span>{% endif %}</td>
<td class="n">{{ row.risk.attack_accuracy | percent_up }}</td>
<td class="n">{{ row.hospital.this_run | loss }}</td>
<td class="n">{{ row.hospital.participations }}</td>
<td class="n">{{ row.hospital.units | count }}</td></tr>
{% endfor %}</tbody>{% endcall %}
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'sha256-{{ style_hash }}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">
<title>Privacy report: {{ r.run.name }}</title><style>{{ style }}</style></head><body>
<header><p class="eyebrow">Privacy report</p><h1>{{ name(r.run.name) }}</h1>
<p class="meta">{{ r.run.setting | capitalize }}, {{ r.run.status }}, \
{{ r.run.rounds }} of {{ r.run.rounds_planned }} rounds. {{ r.run.started | time }} to \
{{ r.run.finished | time }}. Run {{ name(r.run.id) }}.</p></header>
<main>
<section class="verdict {{ r.verdict.level }}" aria-labelledby="verdict">
<div class="said"><h2 class="headline" id="verdict">{{ r.verdict.headline }}</h2>
<p class="sentence">{{ r.verdict.sentence | tight }}</p></div>
{% if r.verdict.level != "none" %}<p class="odds">\
<b>{{ r.verdict.attack_accuracy | percent_up }}</b> \
{{ word("guess", "best guess") }} whether a {{ v.unit }} took part</p>
<div class="gauge"><svg viewBox="0 0 100 8" preserveAspectRatio="none" \
role="img" aria-labelledby="gauge-title">
<title id="gauge-title">Best guess, on a scale from 50 % (a coin) to 100 % (certain): \
{{ r.verdict.attack_accuracy | percent_up }}</title>
<rect class="track" width="100" height="8"/>\
<rect class="fill" width="{{ v.gauge }}" height="8"/></svg>
<p><span>50&nbsp;%: a coin</span><span>75&nbsp;%</span>\
<span>100&nbsp;%: certain</span></p></div>{% endif %}
{% if r.verdict.concerns %}<div class="concerns"><h3>What stands in the way</h3><ul>
{% for concern in r.verdict.concerns[:8] %}<li>{{ name(concern) }}</li>{% endfor %}
{% if r.verdict.concerns | length > 8 %}<li>And {{ r.verdict.concerns | length - 8 }} more; \
the JSON file beside this page lists them all.</li>{% endif %}</ul></div>{% endif %}
</section>
{% if r.verdict.notes %}<div class="notes">{% for note in r.verdict.notes %}<p>{{ note }}</p>\
{% endfor %}</div>{% endif %}
<dl class="figures">
<div class="figure"><dt>Most spent</dt><dd><b>{{ r.federation.maximum | loss }}</b>\
{{ word("epsilon", "epsilon") }} at {{ word("delta", "delta") }} \
{{ r.guarantee.delta | small }}{% if r.unit.protected %}, \
{{ name(r.federation.maximum_hospital) }}{% endif %}</dd></div>
<div class="figure"><dt>Least left</dt><dd>{% if v.least_left is none %}<b>none</b>\
no {{ word("budget", "budget") }} is set{% else %}<b>{{ v.least_left | left }}</b>\
of a {{ word("budget", "budget") }} of {{ v.budgets }}{% endif %}</dd></div>
<div class="figure"><dt>Training hospitals</dt><dd><b>{{ r.federation.hospitals }}</b>\
and {{ r.run.evaluation_hospitals }} that only judged, not covered</dd></div>
<div class="figure"><dt>{{ word("ledger", "Ledgers") }} verified</dt>\
<dd><b>{{ v.verified }} of {{ r.federation.hospitals }}</b>{{ v.ledgers }}</dd></div></dl>

<h2>What is promised</h2>
{% if not r.unit.protected %}<p>Nothing.</p>{% else %}
<p>The protected {{ word("unit", "unit") }} is one <strong>{{ r.guarantee.unit }}</strong>. \
{{ r.guarantee.neighbours }} The best guess above says how well anybody could tell, from what \
left the hospitals, which of the two it was.</p>
<p>{% if r.guarantee.cap_per_person %}{% set cap = r.guarantee.cap_per_person %}A person stands \
in at most {{ "one such unit" if cap == 1 else cap ~ " such units" }} \
at a hospital.\
{% else %}Nothing caps how many units one person stands in; a person in several is protected \
less.{% endif %}</p>{% endif %}
<p><strong>Who has to be trusted.</strong> {{ r.guarantee.trust }}</p>
{% call table("t-observers", "Who sees what, and whether the promise holds against them", true) %}
<thead><tr><th scope="col">Who</th><th scope="col">Sees</th>\
<th scope="col">Promise holds</th></tr></thead><tbody>
{% for one in r.guarantee.observers %}<tr><th scope="row">{{ one.who }}</th><td>{{ one.sees }}\
</td><td>{{ covered("yes" if one.covered else "no") }}</td></tr>{% endfor %}</tbody>{% endcall %}

<h2>What is not covered</h2>
<dl class="facts">{% for gap in r.not_covered %}<dt>{{ gap.name | first_upper }}</dt>\
<dd>{{ gap.words }}</dd>{% endfor %}
<dt>Declared public or unprotected</dt><dd>{{ r.guarantee.unprotected | join(" ") }}</dd></dl>

<h2>Hospital by hospital</h2>
<p>Each figure is that of the most charged {{ v.unit }}. \
{{ v.counted }} \
{% if v.shown | length < v.rows | length %}Shown are the {{ v.shown | length }} hospitals that \
spent most or need attention; half of all {{ v.rows | length }} spent at most \
{{ v.median | loss }}, the least {{ v.least | loss }}. The annex lists every one.{% endif %}</p>
{{ spending(v.shown, "t-spent", v.spent_caption) }}
{% if v.together_who %}<p>{{ v.together_who }} at every one of the \
{{ r.federation.hospitals }} hospitals: \
epsilon at most {{ r.federation.total | loss }} at delta {{ r.federation.total_delta | small }}, \
best guess at most {{ v.together | percent_up }}.</p>{% endif %}

<h2>Budget over time</h2>
{% if v.chart is none %}<p>Nothing to draw: no hospital has a finite spend.</p>{% else %}
{{ v.chart }}{% endif %}

<h2>Ledgers and refusals</h2>
<p>A hospital writes each charge into its ledger before it computes. Each entry carries the \
{{ word("hash", "hash") }} of the one before, so that a later change shows.</p>
{% call table("t-ledgers", "Ledgers" ~ v.cut) %}
<thead><tr><th scope="col" class="first">Hospital</th><th scope="col">Ledger</th>\
<th scope="col" class="n">Last entry</th><th scope="col">Its hash begins</th>\
<th scope="col">Chain</th><th scope="col">{{ word("mark", "Server's mark") }}</th></tr></thead>
<tbody>{% for row in v.shown %}{% set ledger = row.hospital.ledger %}
<tr><th scope="row">{{ name(row.hospital.name) }}</th>
{% if ledger is none %}<td colspan="5">keeps no ledger</td>{% else %}
<td><code>{{ name(ledger.id) }}</code></td><td class="n">{{ ledger.sequence | count }}</td>
<td><code>{{ ledger.head[:16] }}</code></td>
<td>{% if ledger.faults %}<span class="bad">broken</span>: {{ ledger.faults | join("; ") }}\
{% else %}{{ ledger.chain }}{% endif %}</td>
<td>{% if ledger.high_water == "went back" %}<span class="bad">went back</span>\
{% else %}{{ ledger.high_water }}{% endif %}</td>{% endif %}</tr>
{% endfor %}</tbody>{% endcall %}
{% if v.refusals %}{% call table("t-refusals", "Requests that hospitals refused in this run; \
the reasons in words stay with the hospital") %}
<thead><tr><th scope="col" class="first">Hospital</th><th scope="col">Code</th>\
<th scope="col" class="n">Times</th></tr></thead><tbody>
{% for who, refusal in v.refusals %}<tr><th scope="row">{{ name(who) }}</th>\
<td><code>{{ name(refusal.code) }}</code></td><td class="n">{{ refusal.count }}</td></tr>\
{% endfor %}</tbody>{% endcall %}
{% else %}<p>No hospital refused a request in this run.</p>{% endif %}

<h2>What touched the data</h2>
{% call table("t-touches", "Every use of hospital data, and whether the promise covers it", true) %}
<thead><tr><th scope="col">Use</th><th scope="col">Covered</th><th scope="col">What was done</th>\
</tr></thead><tbody>{% for touch in r.touches %}<tr><th scope="row">{{ touch.name | first_upper }}\
</th><td>{{ covered(touch.covered) }}</td><td class="wide">{{ touch.words }}</td></tr>{% endfor %}\
</tbody>{% endcall %}

<h2>How the protection is made</h2>
<p>{{ r.mechanism.words }}</p>
{% if r.mechanism.sums %}{% call table("t-sums", "Noisy sums. Where hospitals differ: the largest \
clip norm, the smallest noise", true) %}
<thead><tr><th scope="col">Kind</th><th scope="col" class="n">{{ word("clip", "Clip norm C") }}\
</th><th scope="col" class="n">{{ word("sigma", "Noise multiplier") }}</th>\
<th scope="col" class="n">{{ word("batch", "Divided by B") }}</th>\
<th scope="col" class="n">Sums a round</th></tr></thead><tbody>
{% for sum in r.mechanism.sums %}<tr><th scope="row">{{ sum.kind }}</th>\
<td class="n">{{ sum.clip_norm | number }}</td><td class="n">{{ sum.noise_multiplier | number }}\
</td><td class="n">{{ sum.batch | number }}</td><td class="n">{{ sum.count }}</td></tr>\
{% endfor %}</tbody>{% endcall %}{% endif %}
<dl class="facts"><dt>Mechanism</dt><dd>{{ r.mechanism.name }}</dd>
<dt>{{ word("steps", "Inner steps T") }}</dt><dd>{{ r.mechanism.inner_steps }} a round</dd>
<dt>Participations</dt><dd>a unit is in at most {{ r.mechanism.participations }} \
round{{ "s" if r.mechanism.participations != 1 }}</dd>
<dt>Sampling</dt><dd>q = {{ r.mechanism.sampling_rate | number }}. {{ r.mechanism.sampling }}</dd>
<dt>{{ word("amplification", "Gain from sampling") }}</dt>\
<dd>{{ r.mechanism.amplification or "none claimed" }}</dd>
<dt>Noise comes from</dt><dd>{{ v.noise }}</dd>
<dt>{{ word("float", "Floating-point defence") }}</dt>\
<dd>{{ r.mechanism.floating_point or "none" }}</dd></dl>

<h2>How the numbers were counted</h2>
<dl class="facts"><dt>Method</dt><dd>{{ r.accounting.method }}</dd>
<dt>Error</dt><dd>{{ r.accounting.error }}</dd>
<dt>{{ word("filter", "Parameters may adapt") }}</dt><dd>{{ v.adaptive }}</dd>
<dt>Second account</dt><dd>{{ v.cross_check }}</dd>
<dt>Libraries</dt><dd>{% for library in r.accounting.libraries %}{{ library.name }} \
{{ library.version }}{{ ", " if not loop.last }}{% endfor %}</dd></dl>
{% call table("t-deltas", "The same spend at other deltas" ~ v.cut ~ ". Delta times the number of \
units should be far below 1") %}
<thead><tr><th scope="col" class="first">Hospital</th>\
<th scope="col" class="n">{{ word("mu", "mu") }}</th>\
{% for delta in v.deltas %}<th scope="col" class="n">epsilon at {{ delta | small }}</th>{% endfor %}
<th scope="col" class="n">delta &times; units</th><th scope="col" class="n">\
{{ word("advantage", "Advantage") }}</th></tr></thead><tbody>
{% for row in v.shown %}<tr><th scope="row">{{ name(row.hospital.name) }}</th>\
<td class="n">{{ row.hospital.mu | loss }}</td>\
{% for epsilon in row.epsilons %}<td class="n">{{ epsilon | loss }}</td>{% endfor %}\
<td class="n">{{ row.risk.delta_times_units | small }}</td>\
<td class="n">{{ row.risk.advantage | percent_up }}</td></tr>{% endfor %}</tbody>{% endcall %}

<h2>Evidence</h2>
<dl class="facts"><dt>{{ word("audit", "Audit") }}</dt><dd>{% if r.evidence.audit is none %}\
Not done. <code>metaward privacy audit</code> attacks the mechanism and measures how much it \
really gives away, in about two minutes.{% else %}{{ v.audit }}{% endif %}</dd>
<dt>Code</dt><dd>{{ r.evidence.code_version }}</dd>
<dt>Configuration</dt><dd>SHA-256 <code>{{ r.evidence.config_sha256 }}</code></dd>
<dt>Seed</dt><dd>{{ "none" if r.run.seed is none else r.run.seed }}</dd></dl>

<h2>Words used</h2>
<dl class="words">{% for key, term, meaning in glossary %}\
<div><dt id="w-{{ key }}">{{ term }}</dt><dd>{{ meaning }}</dd></div>{% endfor %}</dl>
{% if v.shown | length < v.rows | length %}<h2>Annex: every hospital</h2>
{{ spending(v.rows, "t-annex", v.annex_caption) }}{% endif %}
<div class="sign"><div>Hospital, name and role</div><div>Date, signature</div></div>
</main><footer><p>The JSON file beside this page holds the same facts for programs, in the \
published format, version {{ r.schema_version }}.</p></footer></body></html>
"""

CHART = """\
<figure><div class="scroll" role="region" tabindex="0" aria-label="Budget over time">
<svg class="plot" viewBox="0 0 {{ width }} {{ height }}" role="img" \
aria-labelledby="chart-title chart-words">
<title id="chart-title">Epsilon spent over time</title><desc id="chart-words">{{ c.words }}</desc>
{% for t in c.y_ticks %}<path class="grid" d="M{{ left }} {{ t.y }}H{{ right }}"/>\
<text x="{{ t.x }}" y="{{ t.y + 4 }}" text-anchor="end">{{ t.text }}</text>{% endfor %}
{% for t in c.dates %}<text x="{{ t.x }}" y="{{ t.y }}">{{ t.text }}</text>{% endfor %}
<text x="2" y="{{ top - 12 }}">epsilon</text>
{% for t in c.runs %}<path class="begin" d="M{{ t.x }} {{ top }}V{{ bottom }}"/>\
<text x="{{ t.x }}" y="{{ t.y }}">{{ t.text }}</text>{% endfor %}
{% if c.band %}<path class="band" d="{{ c.band }}"/>{% endif %}
{% for b in c.budgets %}<path class="limit" d="M{{ left }} {{ b.y }}H{{ right }}"/>\
<text class="limit-word" x="{{ left + 4 }}" y="{{ b.y - 6 }}">{{ b.text }}</text>{% endfor %}
{% for line in c.lines %}<path class="s s{{ loop.index0 }}" d="{{ line.path }}"/>\
<path class="lead" d="M{{ right }} {{ line.end }}L{{ right + 13 }} {{ line.label.y }}"/>\
<text class="t{{ loop.index0 }}" x="{{ line.label.x }}" y="{{ line.label.y + 4 }}">\
{{ line.label.text }}</text>{% endfor %}</svg></div>
<figcaption>Epsilon of the most charged unit after each round, the rounds side by side. \
Dotted uprights: a run begins.{% if c.budgets %} Dashed red: the budget.{% endif %}\
{% if c.others %} Shaded: the range of the {{ c.others }} other hospitals.{% endif %} \
{{ c.words }}</figcaption></figure>
"""
