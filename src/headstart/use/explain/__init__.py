"""Where a model looked in a picture: from inside the network (torch), or from outside (any machine).

`heat` and `occlusion` need no torch; `gradcam` does.
"""

from __future__ import annotations

from headstart.use.explain.explanation import Explanation, Method, explain_pictures
from headstart.use.explain.heat import over_whole, overlay

__all__ = ["Explanation", "Method", "explain_pictures", "over_whole", "overlay"]
