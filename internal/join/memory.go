// SPDX-License-Identifier: Apache-2.0

package join

// Memory keeps the machine record.
type Memory interface{}
