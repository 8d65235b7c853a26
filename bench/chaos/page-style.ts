/** Of the page: two sets of colours, by what the reader prefers. */
export const STYLE = `
:root{--bg:#f7f8fa;--card:#fff;--ink:#1a2130;--soft:#5b6577;--line:#e2e6ec;--good:#0f7b47;--bad:#c2261d;--acked:#2b6cd4;--offered:#8d97a8;--p50:#0e8f83;--p99:#d9730d;--gap:#d13b32;
--processes:#c8433a;--links:#7a4fd0;--disks:#b7791f;--files:#c23a86;--clocks:#2f8f4e;--orders:#2f7fb8;--commands:#56657d}
@media (prefers-color-scheme:dark){:root{--bg:#0f131a;--card:#171d27;--ink:#e6eaf1;--soft:#98a3b5;--line:#2a3341;--good:#3fbf7f;--bad:#ff6b5e;--acked:#6ba4ff;--offered:#6d788a;--p50:#3fc9ba;--p99:#ffa14d;--gap:#ff6f64;
--processes:#f0776d;--links:#ab8bf5;--disks:#e0aa4e;--files:#f07bb8;--clocks:#62c583;--orders:#69b3e8;--commands:#9aa8be}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1280px;padding:28px 24px 48px;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
h1{margin:6px 0 4px;font-size:28px;letter-spacing:-.01em}h2{margin:0 0 10px;font-size:18px}h3{margin:0 0 6px;font-size:15px}
p{margin:4px 0}.summary{font-size:16px}.meta,footer,.unit{color:var(--soft);font-size:13px}
.verdict{display:inline-block;margin:0;padding:3px 12px;border-radius:99px;color:#fff;font-weight:600;font-size:14px}.verdict.good{background:var(--good)}.verdict.bad{background:var(--bad)}
@media (prefers-color-scheme:dark){.verdict{color:#0f131a}}
section{margin:18px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:12px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}.tile b{display:block;white-space:nowrap;font-size:20px;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:13px;line-height:1.3;display:block}
figure{margin:0 0 12px;padding:12px 14px 6px;background:var(--card);border:1px solid var(--line);border-radius:10px}
figcaption{display:flex;flex-wrap:wrap;gap:4px 10px;align-items:baseline;margin-bottom:6px}.legend{margin-left:auto;display:flex;flex-wrap:wrap;gap:4px 14px}
.key{white-space:nowrap;font-size:13px;--c:var(--soft)}.key::before{content:"";display:inline-block;width:10px;height:10px;border-radius:3px;background:var(--c);margin-right:6px}
svg{display:block;width:100%;height:auto}
.grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}.tick{fill:var(--soft);font-size:11px;font-variant-numeric:tabular-nums}
.line{fill:none;stroke:var(--c);stroke-width:1.6;stroke-linejoin:round;vector-effect:non-scaling-stroke}.area{fill:var(--c);opacity:.16}
.cursor{stroke:var(--ink);stroke-width:1;opacity:0;pointer-events:none}
.bar{fill:var(--c)}.bar.healing{opacity:.28}.bar.missed{fill:none;stroke:var(--c);stroke-dasharray:3 3}
.barname{fill:#fff;font-size:11px;font-weight:600;pointer-events:none}
@media (prefers-color-scheme:dark){.barname{fill:#0f131a}}
.c-acked{--c:var(--acked)}.c-offered{--c:var(--offered)}.line.c-offered{stroke-dasharray:4 4;stroke-width:1.2}.c-p50{--c:var(--p50)}.c-p99{--c:var(--p99)}.c-gap{--c:var(--gap)}
.f-bits{--c:var(--files)}.f-processes{--c:var(--processes)}.f-links{--c:var(--links)}.f-disks{--c:var(--disks)}.f-files{--c:var(--files)}.f-clocks{--c:var(--clocks)}.f-orders{--c:var(--orders)}.f-commands{--c:var(--commands)}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:13px}th,td{padding:6px 10px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:600}tbody tr:last-child td{border-bottom:0}
.n{text-align:right;font-variant-numeric:tabular-nums}tr.missed td{color:var(--soft)}
details summary{cursor:pointer;font-weight:600;font-size:16px;margin-bottom:10px}
.findings{border:2px solid var(--bad);border-radius:10px;padding:14px 18px;background:var(--card)}pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:12px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.skipped ul,.findings ul{margin:0;padding-left:20px}code{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
#readout{position:fixed;background:var(--ink);color:var(--bg);padding:4px 9px;border-radius:6px;font-size:12px;pointer-events:none;white-space:pre;font-variant-numeric:tabular-nums}
`;
