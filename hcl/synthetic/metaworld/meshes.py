"""Simplify the meshes of the robot for drawing: software rendering costs per triangle, and a pixel shows 5 mm."""

from __future__ import annotations

from typing import Any

import numpy as np

_CELL = 0.006  # metres; vertices in one cell become one
_MANY_FACES = 1500  # smaller meshes stay
_MESH = 7  # mujoco.mjtGeom.mjGEOM_MESH


def simplify_meshes(model: Any) -> None:
    """Merge the vertices of large meshes, in place, that only the robot uses and that never collide."""
    is_mesh = model.geom_type == _MESH
    of_robot = model.body_rootid[model.geom_bodyid] == model.body("base").id
    is_free = is_mesh & of_robot & (model.geom_contype == 0) & (model.geom_conaffinity == 0)
    free, others = (set(model.geom_dataid[mask].tolist()) for mask in (is_free, is_mesh & ~is_free))
    for mesh in sorted(free - others):
        if model.mesh_facenum[mesh] > _MANY_FACES:
            _simplify(model, mesh)


def _simplify(model: Any, mesh: int) -> None:
    first, n_faces = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    first_vertex = int(model.mesh_vertadr[mesh])
    vertices = model.mesh_vert[first_vertex : first_vertex + int(model.mesh_vertnum[mesh])]
    cells = np.floor(vertices / _CELL).astype(int)
    _, kept_vertex, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    faces = kept_vertex[cell.reshape(-1)][model.mesh_face[first : first + n_faces]]
    a, b, c = faces.T
    kept = np.flatnonzero((a != b) & (b != c) & (a != c))
    _, unique = np.unique(np.sort(faces[kept], 1), axis=0, return_index=True)
    kept = kept[np.sort(unique)]
    model.mesh_face[first : first + len(kept)] = faces[kept]
    model.mesh_facenormal[first : first + len(kept)] = model.mesh_facenormal[first : first + n_faces][kept]
    model.mesh_facenum[mesh] = len(kept)
