"""The page's style sheet: light and dark, narrow and wide, and A4 paper."""

STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf6;--card:#fff;--ink:#1b2430;--soft:#56606d;
--line:#dcd9cf;--accent:#0b5a63;--good:#1c6b47;--good-bg:#e9f4ed;--warn:#825200;
--warn-bg:#fbf1dc;--bad:#a02a12;--bad-bg:#fbe9e4;--none:#8c1020;--track:#e7e4da;
--c0:#0b5a63;--c1:#b0521a;--c2:#5a4a9c;--c3:#2f7a3f;--c4:#a33b6f;--band:#0b5a6322}
@media (prefers-color-scheme:dark){:root{--paper:#12171d;--card:#1a2129;--ink:#e7eaee;
--soft:#a7b1bd;--line:#34404c;--accent:#6fc3cb;--good:#7fd0a3;--good-bg:#16291f;--warn:#eebf6a;
--warn-bg:#2d2415;--bad:#f5977f;--bad-bg:#331c17;--none:#8c1020;--track:#2d3742;
--c0:#6fc3cb;--c1:#f0a068;--c2:#b3a6f2;--c3:#8ed19b;--c4:#f09cc0;--band:#6fc3cb2b}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.55 system-ui,-apple-system,
"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif;overflow-wrap:anywhere}
main,header,footer{max-width:64rem;margin:0 auto;padding:0 1.25rem}
h1,h2,.headline,.figure b,.odds b{font-family:"Iowan Old Style",Charter,
"Bitstream Charter",Palatino,Georgia,"Noto Serif","Liberation Serif",serif;
font-weight:600;line-height:1.2}
header{padding-top:2.5rem}
.eyebrow{margin:0;color:var(--accent);font-weight:600;font-size:.95rem}
h1{font-size:2.1rem;margin:.2rem 0 .4rem}
.meta{margin:0 0 1.5rem;color:var(--soft);font-size:.95rem}
h2{font-size:1.5rem;margin:3rem 0 .6rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1.02rem;margin:1.6rem 0 .3rem}
p{margin:.5rem 0 .8rem;max-width:44rem}
ul{margin:.4rem 0 .9rem;padding-left:1.3rem;max-width:44rem}
li{margin:.2rem 0}
a{color:var(--accent);text-underline-offset:.15em}
a.word{color:inherit;text-decoration:underline dotted;text-decoration-color:var(--accent)}
.soft{color:var(--soft)}
code{font:.88em/1.4 ui-monospace,"Cascadia Mono",Menlo,"DejaVu Sans Mono",monospace}
.verdict{--tone:var(--good);border-left:.5rem solid var(--tone);background:var(--good-bg);
border-radius:.3rem;padding:1.4rem 1.6rem 1.2rem;margin:0 0 1.4rem}
.verdict.weak{--tone:var(--warn);background:var(--warn-bg)}
.verdict.attention{--tone:var(--bad);background:var(--bad-bg)}
.headline{margin:0;padding:0;border:0;font-size:2.2rem;color:var(--tone)}
.sentence{font-size:1.2rem;line-height:1.5;margin:.5rem 0 .6rem}
.verdict{display:grid;grid-template-columns:1fr auto;column-gap:2.5rem;align-items:end}
.odds{max-width:11rem;margin:0 0 .7rem;font-size:.9rem;line-height:1.35}
.odds b{display:block;color:var(--tone);font-size:2.9rem;line-height:1.1;white-space:nowrap}
.gauge,.concerns,.verdict.none .said{grid-column:1/-1}
.gauge svg{display:block;width:100%;height:.6rem;border-radius:.3rem}
.gauge p{display:flex;justify-content:space-between;max-width:none;margin:.2rem 0 0;
font-size:.82rem}
.verdict.none{background:var(--none);border-color:var(--none);color:#fff;padding:2.2rem 1.8rem}
.verdict.none .headline{color:#fff;font-size:clamp(3rem,12vw,6.5rem);line-height:1;
font-weight:800;font-family:inherit}
.verdict h3{margin-top:1rem}
.notes{border:1px solid var(--line);border-left:.5rem solid var(--warn);background:var(--card);
border-radius:.3rem;padding:.6rem 1.2rem;margin:0 0 1.4rem}
.notes p{margin:.3rem 0}
.figures{display:grid;grid-template-columns:repeat(4,1fr);gap:1px;background:var(--line);
border:1px solid var(--line);border-radius:.3rem;overflow:hidden;margin:0}
.figure{background:var(--card);padding:.9rem 1.1rem}
.figure dt{color:var(--soft);font-size:.85rem}
.figure dd{margin:0;font-size:.85rem;line-height:1.4}
.figure b{display:block;font-size:1.75rem;margin:.1rem 0}
.scroll{overflow-x:auto;margin:.8rem 0 1.4rem;border:1px solid var(--line);border-radius:.3rem;
background:var(--card)}
.scroll:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.88rem;line-height:1.4;
overflow-wrap:break-word}
caption{text-align:left;padding:.8rem .9rem .6rem;color:var(--soft);font-size:.88rem}
th,td{padding:.45rem .75rem;text-align:left;vertical-align:top;border-top:1px solid var(--line)}
thead th{font-weight:600;color:var(--soft);vertical-align:bottom}
tbody th{font-weight:600;min-width:8rem;max-width:17rem}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.wide{min-width:15rem}
.yes{color:var(--good);font-weight:600}.no,.bad{color:var(--bad);font-weight:600}
.used{white-space:nowrap}.bar{display:inline-block;width:4rem;height:.5rem;margin-right:.3rem}
.track{fill:var(--track)}.fill{fill:var(--accent)}.over{fill:var(--bad)}
.verdict .track{fill:var(--ink);opacity:.13}.verdict .fill{fill:var(--tone)}
svg text{font-family:inherit;font-size:12px;fill:var(--soft)}
figure{margin:.8rem 0}figcaption{color:var(--soft);font-size:.88rem;max-width:44rem}
.plot{min-width:38rem;width:100%;height:auto;display:block;padding:.6rem}
.grid{stroke:var(--line);stroke-width:1}.begin{stroke:var(--line);stroke-dasharray:2 3}
.limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:7 4}
.plot .limit-word{fill:var(--bad);font-weight:600}
.band{fill:var(--band)}.lead{fill:none;stroke:var(--line)}
.s{fill:none;stroke-width:2.2;stroke-linejoin:round}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1);stroke-dasharray:9 3}
.s2{stroke:var(--c2);stroke-dasharray:3 3}.s3{stroke:var(--c3);stroke-dasharray:10 3 2 3}
.s4{stroke:var(--c4);stroke-dasharray:5 2}
.plot .t0{fill:var(--c0)}.plot .t1{fill:var(--c1)}.plot .t2{fill:var(--c2)}
.plot .t3{fill:var(--c3)}.plot .t4{fill:var(--c4)}
.facts{display:grid;grid-template-columns:minmax(10rem,15rem) 1fr;gap:0;margin:.8rem 0 1.2rem;
border-bottom:1px solid var(--line)}
.facts dt,.facts dd{margin:0;padding:.5rem .2rem;border-top:1px solid var(--line)}
.facts dt{color:var(--soft);padding-right:1rem}
.words{columns:2;column-gap:3rem}.words div{break-inside:avoid;padding-bottom:.8rem}
.words dt{font-weight:600}.words dd{margin:0}
.words :target,.words dt:target+dd{background:var(--good-bg)}
.sign{display:grid;grid-template-columns:1fr 1fr;gap:2.4rem 2rem;margin:2.6rem 0 1rem}
.sign div{border-top:1px solid var(--ink);padding-top:.3rem;font-size:.85rem;color:var(--soft)}
footer{padding-top:1rem;padding-bottom:3rem;color:var(--soft);font-size:.85rem}
@media (max-width:44rem){body{font-size:16px}h1{font-size:1.7rem}.headline{font-size:1.8rem}
.sentence{font-size:1.1rem}.verdict{padding:1.1rem 1.1rem 1rem}
.verdict{display:block}.odds{max-width:none}.words{columns:1}
.figures{grid-template-columns:1fr 1fr}.facts{grid-template-columns:1fr}
.facts dd{border-top:0;padding-top:0}.facts dt{padding-bottom:0}
th,td{padding:.4rem .6rem}tbody th{min-width:7rem}td.wide{min-width:0}
caption span{display:inline-block;position:sticky;left:.9rem;max-width:calc(100vw - 4.5rem)}
th[scope=row],.first{position:sticky;left:0;background:var(--card);max-width:9rem}
.sign{grid-template-columns:1fr}}
@page{size:A4;margin:17mm 16mm 19mm;
@bottom-left{content:"Privacy report";font:8pt sans-serif;color:#56606d}
@bottom-right{content:counter(page) " / " counter(pages);font:8pt sans-serif;color:#56606d}}
@media print{:root{color-scheme:light;--paper:#fff;--card:#fff;--ink:#14191f;--soft:#4a535e;
--line:#cfccc2;--accent:#0b5a63;--good:#1c6b47;--good-bg:#eef6f1;--warn:#825200;--warn-bg:#fbf4e4;
--bad:#a02a12;--bad-bg:#fbefeb;--track:#e7e4da;--c0:#0b5a63;--c1:#b0521a;--c2:#5a4a9c;
--c3:#2f7a3f;--c4:#a33b6f;--band:#0b5a6322}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
html{font-size:9.3pt}body{font-size:1rem;line-height:1.42}
main,header,footer{max-width:none;padding:0}
h1{font-size:20pt}h2{font-size:13.5pt;margin-top:1.6rem;padding-top:.7rem}h3{font-size:10pt}
header{padding-top:0}.words{columns:2}.verdict{display:grid}
h2,h3,caption{break-after:avoid}p,li{orphans:3;widows:3}p,ul,figcaption{max-width:none}
.verdict,.notes,.figures,figure,.facts dd,.sign,tr,.whole{break-inside:avoid}
thead{display:table-header-group}
.headline{font-size:19pt}.sentence{font-size:11pt}.verdict.none .headline{font-size:54pt}
.odds b{font-size:25pt}
.figures{grid-template-columns:repeat(4,1fr)}.figure b{font-size:15pt}
.facts{grid-template-columns:12rem 1fr}.facts dd{border-top:1px solid var(--line);padding-top:.3rem}
.facts dt,.facts dd{padding-bottom:.3rem;padding-top:.3rem}
.scroll{overflow:visible;border:0;margin:.5rem 0 1rem}.plot{min-width:0;padding:0}
table{font-size:8pt}th,td{padding:.25rem .4rem}caption{padding:.3rem .4rem}
tbody th{min-width:7.5rem;max-width:14rem}td.wide{min-width:0}.bar{width:3rem}
th.n{white-space:normal}a,a.word{color:inherit;text-decoration:none}
.sign{grid-template-columns:1fr 1fr;margin-top:3.2rem}}
"""
