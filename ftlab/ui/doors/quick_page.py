"""Speed up Gradio's page: compress it, and find components without searching the whole tree.

Checked with Gradio 6.31. For each value that its page sends, gets or shows, it finds the component by searching the
whole tree: 960 components, through Svelte's proxies. That froze the first press on Blind test for seconds. This module
caches each component's place and verifies it before use. If another Gradio version has a different script, that
script is served unchanged: slower, but correct.
"""

from __future__ import annotations

import functools
import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

_LEVEL = 5  # gzip level: the page, which names every component, shrinks from 880 kB to 60 kB in 10 ms
_SCRIPT = re.compile(r"/assets/(core-[\w-]+\.js)$")
_SEARCH = re.compile(
    r"function (?P<name>\w+)\((?P<node>\w+),(?P<id>\w+)\)\{if\((?P=node)\.id===(?P=id)\)return (?P=node);"
    r"if\((?P=node)\.children\)for\(let (?P<child>\w+) of (?P=node)\.children\)"
    r"\{let (?P=node)=(?P=name)\((?P=child),(?P=id)\);if\((?P=node)\)return (?P=node)\}return null\}"
)
# `places` maps each component that was found to its path: the child indexes that lead to it.
_LOOK_UP = r"""const places=new WeakMap();function \g<name>(root,id){
let known=places.get(root);
if(!known){places.set(root,known=new Map());
const list=(node,way)=>{known.set(node.id,way);node.children?.forEach((child,at)=>list(child,[...way,at]))};
list(root,[])}
const way=known.get(id);if(way){let node=root;for(const at of way){node=node.children?.[at];if(!node)break}
if(node?.id===id)return node}
const path=[],search=node=>{if(node.id===id)return node;
const all=node.children;if(all)for(let at=0;at<all.length;at++){path.push(at);const found=search(all[at]);
if(found)return found;path.pop()}return null};const found=search(root);if(found)known.set(id,path);return found}"""


def quick(app: Any) -> Any:
    """ASGI wrapper around `app`, a server of Gradio pages: compresses the page and patches its component look-up."""
    from starlette.middleware.gzip import GZipMiddleware

    return GZipMiddleware(_QuickScript(app), compresslevel=_LEVEL)


class _QuickScript:
    """Passes every response on, and patches the script if the server may send it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        asked = _SCRIPT.search(scope["path"]) if scope["type"] == "http" else None
        script = quick_script(asked[1]) if asked else None
        if script is None:
            await self.app(scope, receive, send)
            return
        # A browser that cached Gradio's original script must download the patched one.
        headers = [(name, value) for name, value in scope["headers"] if not name.startswith(b"if-")]
        served = False

        async def changed(message: MutableMapping[str, Any]) -> None:
            nonlocal served
            if message["type"] == "http.response.start" and message["status"] == 200:
                served = True
                await send({"type": "http.response.start", "status": 200, "headers": _headers(script)})
                await send({"type": "http.response.body", "body": script})
            elif not served:
                await send(message)

        await self.app({**scope, "headers": headers}, receive, changed)


def _headers(script: bytes) -> list[tuple[bytes, bytes]]:
    headers = {"content-type": "text/javascript; charset=utf-8", "content-length": str(len(script))}
    headers["cache-control"] = "public, max-age=86400"  # its name has a digest of what Gradio ships
    return [(name.encode(), value.encode()) for name, value in headers.items()]


@functools.cache
def quick_script(name: str) -> bytes | None:
    """Gradio's script `name` with the faster look-up; None if it has no such search."""
    import gradio

    file = Path(gradio.__file__).parent / "templates" / "frontend" / "assets" / name
    try:
        text, changed = _SEARCH.subn(_LOOK_UP, file.read_text(encoding="utf-8"))
    except OSError:
        return None
    return text.encode() if changed == 1 else None
