"""Name the 46 actions of the benchmark, their readable names, their twins, and the partition of each.

An action is a task of Meta-World, whose scripted policy carries it out. Twins are actions that undo each other; they
and all actions on one kind of object are in the same partition, so that no object of val or test is seen in training.
Meta-World has four more tasks (plates slid sideways, and a stick that pushes or pulls), which are not in the benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """Describe a class of the benchmark.

    Attributes:
        title: readable name, such as `opening a door`.
        twin: the class that undoes it; empty if there is none.
    """

    title: str
    twin: str = ""


ACTIONS_OF: dict[str, dict[str, Action]] = {
    "train": {
        "assembly": Action("putting a nut onto a peg", twin="disassemble"),
        "basketball": Action("dunking a ball into a basket"),
        "bin_picking": Action("moving an object from one bin to another"),
        "box_close": Action("putting a lid on a box"),
        "button_press": Action("pushing a button from the front"),
        "button_press_topdown": Action("pushing a button down from above"),
        "button_press_topdown_wall": Action("pushing a button behind a wall down from above"),
        "button_press_wall": Action("pushing a button behind a wall from the front"),
        "coffee_button": Action("pushing the button of a coffee machine"),
        "coffee_pull": Action("pulling a mug away from a coffee machine", twin="coffee_push"),
        "coffee_push": Action("pushing a mug under a coffee machine", twin="coffee_pull"),
        "dial_turn": Action("turning a dial"),
        "disassemble": Action("taking a nut off a peg", twin="assembly"),
        "hammer": Action("hammering a nail into a block"),
        "hand_insert": Action("lowering the gripper with an object into a hole"),
        "lever_pull": Action("pulling a lever up"),
        "peg_insert_side": Action("inserting a peg into a hole sideways", twin="peg_unplug_side"),
        "peg_unplug_side": Action("unplugging a peg sideways", twin="peg_insert_side"),
        "pick_out_of_hole": Action("picking an object out of a hole"),
        "pick_place": Action("picking an object up and placing it elsewhere"),
        "pick_place_wall": Action("lifting an object over a wall"),
        "push": Action("pushing an object away", twin="push_back"),
        "push_back": Action("pulling an object back", twin="push"),
        "push_wall": Action("pushing an object around a wall"),
        "reach": Action("reaching to a point without touching anything"),
        "reach_wall": Action("reaching to a point near a wall without touching anything"),
        "shelf_place": Action("placing an object onto a shelf"),
        "soccer": Action("pushing a ball into a goal"),
        "sweep": Action("sweeping an object off the table"),
        "sweep_into": Action("sweeping an object into a hole"),
    },
    "val": {
        "door_lock": Action("locking a door by turning its lock", twin="door_unlock"),
        "door_unlock": Action("unlocking a door by turning its lock", twin="door_lock"),
        "faucet_close": Action("turning a faucet off", twin="faucet_open"),
        "faucet_open": Action("turning a faucet on", twin="faucet_close"),
        "handle_press": Action("pressing a handle down", twin="handle_pull"),
        "handle_press_side": Action("pressing a handle down sideways", twin="handle_pull_side"),
        "handle_pull": Action("pulling a handle up", twin="handle_press"),
        "handle_pull_side": Action("pulling a handle up sideways", twin="handle_press_side"),
    },
    "test": {
        "door_close": Action("closing a door", twin="door_open"),
        "door_open": Action("opening a door", twin="door_close"),
        "drawer_close": Action("closing a drawer", twin="drawer_open"),
        "drawer_open": Action("opening a drawer", twin="drawer_close"),
        "plate_slide": Action("sliding a plate into a cabinet", twin="plate_slide_back"),
        "plate_slide_back": Action("sliding a plate back out of a cabinet", twin="plate_slide"),
        "window_close": Action("sliding a window shut", twin="window_open"),
        "window_open": Action("sliding a window open", twin="window_close"),
    },
}
ACTIONS = {name: action for actions in ACTIONS_OF.values() for name, action in actions.items()}


def task_of(action: str) -> str:
    """Return Meta-World's name of the task, such as `door-open-v3` for `door_open`."""
    return f"{action.replace('_', '-')}-v3"
