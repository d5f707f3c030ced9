"""The style of all pages. Their security policy names its digest, so it stands in each of them."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #6a6a6a; --box: #8881; --mark: #0b5fa5; }
@media (prefers-color-scheme: dark) { :root { --dim: #a0a0a0; --mark: #7db9f0; } }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; }
a { color: var(--mark); }
code, pre, .method { font-family: ui-monospace, monospace; font-size: .9em; }
nav { padding: 1rem 1.5rem; border-bottom: 1px solid var(--line); }
nav ul { list-style: none; margin: 0; padding: 0; }
nav h2 { font-size: .9rem; margin: 1rem 0 .2rem; }
nav li { font-size: .85rem; overflow-wrap: anywhere; margin: .15rem 0; }
main { padding: 1rem 1.5rem 6rem; max-width: 60rem; }
h1 { margin: 0 0 .5rem; }
h2 { margin: 2.5rem 0 .75rem; }
h2::first-letter { text-transform: uppercase; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; padding: 0 .9rem; }
summary { cursor: pointer; margin: 0 -.9rem; padding: .5rem .9rem; overflow-wrap: anywhere; }
details[open] > summary { border-bottom: 1px solid var(--line); }
.method { font-weight: 700; display: inline-block; min-width: 3.6rem; }
.dim { color: var(--dim); }
table { border-collapse: collapse; width: 100%; margin: .25rem 0 .75rem; font-size: .92rem; }
th, td { border-top: 1px solid var(--line); padding: .3rem .6rem .3rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
td:first-child { width: 12rem; }
td p { margin: 0; }
pre { background: var(--box); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto; }
:target { scroll-margin-top: 1rem; }
@media (min-width: 64rem) {
  body { display: grid; grid-template-columns: 19rem 1fr; }
  nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; border-bottom: 0;
    border-right: 1px solid var(--line); }
}
@media print { nav { display: none; } }
"""
