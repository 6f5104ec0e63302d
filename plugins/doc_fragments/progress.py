# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  show_progress:
    description: Whether to show how far it is, about each two seconds, where it takes longer than that.
    type: bool
    default: true
  progress:
    description: File to write the progress to, as JSON. Set by the action of this module; leave it out.
    type: path
"""
